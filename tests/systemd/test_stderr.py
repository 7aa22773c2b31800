"""What servers write to stderr goes where ``run --stderr`` says, and stays small."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scopekeeper.stderr import last_lines
from tests.machine import (
    MOUNT,
    ROOT,
    SHELL,
    Scopekeeper,
    cgroup_of,
    directory_of,
    eventually,
    processes,
)
from tests.viewer import Viewer

from .guard import Keeper
from .test_journal_names import entries

pytestmark = pytest.mark.systemd

MIB = 1 << 20
TALK = (
    "echo one >&2; echo '<3>an error' >&2; (echo of a child >&2; exec sleep infinity) & "
    "exec sleep infinity"
)
FLOOD = """
import os, sys
piece = (b"x" * 1023 + b"\\n") * 4096
for line in sys.stdin:
    for _ in range(16):
        os.write(2, piece)
    os.write(2, line.encode())
    print("written", flush=True)
"""
"""Writes 64 MiB for each line that it is sent, then the line."""


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the folder of the files, in a state folder of the test's own."""
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("SCOPEKEEPER_CONFIG", str(tmp_path / "rules"))
    return tmp_path / "state/stderr"


def leaf_of(process: "subprocess.Popen[bytes]") -> str:
    return os.path.basename(cgroup_of(process.pid))


def stream(leaf: str) -> list[dict[str, str]]:
    return entries(f"SYSLOG_IDENTIFIER={leaf}", "_TRANSPORT=stdout")


def taken(path: Path) -> int:
    return path.stat().st_blocks * 512


def test_the_journal_has_each_line_with_the_members_cgroup(
    keeper: Scopekeeper, session: str
) -> None:
    member = keeper.member(
        "-s", session, "-n", "time", "--stderr=journal", "--", "sh", "-c", TALK,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    directory, leaf = directory_of(member.pid), leaf_of(member)
    lines = eventually(lambda: (found := stream(leaf))[2:] and found)
    texts = {(entry["MESSAGE"], entry["PRIORITY"]) for entry in lines}
    assert texts == {("one", "6"), ("an error", "3"), ("of a child", "6")}
    assert {entry["_SYSTEMD_CGROUP"] for entry in lines} == {directory.removeprefix(MOUNT)}
    unit = directory.split("/")[-2]
    assert {e["_SYSTEMD_UNIT" if ROOT else "_SYSTEMD_USER_UNIT"] for e in lines} == {unit}
    pids = {entry["_PID"] for entry in lines}
    assert set(map(int, pids)) == processes(directory)
    # the fields of ours are in the entry before them
    (begin,) = entries(f"SCOPEKEEPER_SESSION={session}")
    assert begin["SYSLOG_IDENTIFIER"] == begin["SCOPEKEEPER_MEMBER"] == leaf
    assert (begin["SCOPEKEEPER_LANE"], begin["SCOPEKEEPER_SCOPE"]) == ("main", unit)
    assert begin["MESSAGE"].startswith("stderr of time (m-time.")
    # no process stays, and no descriptor but stderr
    assert str(member.pid) in pids
    assert len(pids) == 2
    opened = {fd: os.readlink(f"/proc/{member.pid}/fd/{fd}") for fd in (0, 1, 2)}
    assert sorted(map(int, os.listdir(f"/proc/{member.pid}/fd"))) == [0, 1, 2]
    assert opened[2].startswith("socket:")
    keeper.call("stop", "-s", session)
    assert member.stderr.read() == b""


def test_lines_of_what_ends_at_once_are_found_by_the_identifier(
    keeper: Scopekeeper, session: str
) -> None:
    # the journal may read them when the process is gone, and then cannot know its cgroup
    done = keeper.run("-s", session, "--stderr=journal", "--", "sh", "-c", "(echo short >&2)")
    assert (done.returncode, done.stderr) == (0, "")
    (begin,) = eventually(lambda: entries(f"SCOPEKEEPER_SESSION={session}", "_TRANSPORT=journal"))
    (line,) = eventually(lambda: stream(begin["SCOPEKEEPER_MEMBER"]))
    assert (line["MESSAGE"], line["_UID"]) == ("short", str(os.getuid()))


def test_why_shows_the_last_lines_now_and_after_the_end(keeper: Scopekeeper, session: str) -> None:
    for how in ("journal", "file"):
        member = keeper.member(
            "-s", session, "-n", how, f"--stderr={how}", "--", "sh", "-c",
            f"printf '\\033[31mfirst of {how}\\033[0m\\n' >&2; exec sleep infinity",
        )  # fmt: skip
        leaf = leaf_of(member)
        if how == "journal":
            eventually(lambda leaf=leaf: stream(leaf))

        def lines(leaf: str = leaf, how: str = how) -> list[str]:
            told = keeper.call("why", leaf).stdout.splitlines()
            return [line.strip() for line in told if how in line][1:]

        head, first = eventually(lambda: (found := lines())[1:] and found)
        assert head.startswith("stderr (")
        assert first == f"first of {how}"
        keeper.call("stop", "-s", session, "-n", how)
        assert lines() == [head, first]


def test_a_file_is_kept_small_while_a_server_floods_it(
    guard: Keeper, keeper: Scopekeeper, session: str, state: Path
) -> None:
    guard.start()
    member = keeper.start(
        "-s", session, "-n", "flood", "--stderr=file", "--", sys.executable, "-c", FLOOD,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    (path,) = eventually(lambda: list(state.glob("file/m-flood.*")))
    for number in range(16):  # a gigabyte in all
        member.stdin.write(b"after piece %d\n" % number)
        member.stdin.flush()
        assert member.stdout.readline() == b"written\n"
        eventually(lambda: taken(path) <= 2 * MIB)
    assert path.stat().st_size > 1024 * MIB
    assert last_lines.tail(str(path)).endswith(b"\nafter piece 15\n")
    told = keeper.call("why", path.name).stdout
    assert told.rstrip().endswith("after piece 15")
    member.stdin.close()
    member.wait()
    assert guard.ends(session)
    assert keeper.call("why", path.name).stdout.rstrip().endswith("after piece 15")


def test_a_keeper_that_was_killed_shortens_what_grew_meanwhile(
    guard: Keeper, keeper: Scopekeeper, session: str, state: Path
) -> None:
    guard.start()
    script = "read -r line; head -c 8M /dev/zero >&2; echo written; exec sleep infinity"
    member = keeper.member(
        "-s", session, "-n", "late", "--stderr=file", "--", "sh", "-c", script,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    os.kill(guard.pid, signal.SIGSTOP)
    member.stdin.write(b"\n")
    member.stdin.flush()
    assert member.stdout.readline() == b"written\n"
    (path,) = state.glob("file/m-late.*")
    assert taken(path) >= 8 * MIB
    os.kill(guard.pid, signal.SIGKILL)
    eventually(lambda: taken(path) <= 2 * MIB)


def test_without_the_option_no_folder_is_made(
    guard: Keeper, keeper: Scopekeeper, session: str, state: Path
) -> None:
    guard.start()
    assert keeper.run("-s", session, "--stderr=inherit", "--", "true").returncode == 0
    assert guard.ends(session)
    keeper.call("reconcile")
    assert keeper.call("why", session).returncode == 0
    assert not state.exists()


@pytest.mark.parametrize("by", ["reconcile", "a launch"])
def test_without_a_keeper_others_shorten_it(
    keeper: Scopekeeper, session: str, state: Path, by: str
) -> None:
    script = "head -c 8M /dev/zero >&2; echo written; exec sleep infinity"
    member = keeper.start(
        "-s", session, "-n", "big", "--stderr=file", "--", "sh", "-c", script,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert member.stdout.readline() == b"written\n"
    (path,) = state.glob("file/m-big.*")
    assert taken(path) >= 8 * MIB
    keeper.call("reconcile", "--dry-run")
    assert taken(path) >= 8 * MIB
    if by == "reconcile":
        keeper.call("reconcile")
    else:
        keeper.run("-s", session, "-n", "other", "--stderr=file", "--", "true")
    assert taken(path) <= 2 * MIB
    assert member.poll() is None


def test_rules_are_for_servers_and_the_call_overrides_them(
    keeper: Scopekeeper, session: str, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rules").mkdir()
    text = '[lanes.default]\nstderr = "file"\n[servers.git]\nstderr = "inherit"\n'
    (tmp_path / "rules/config.toml").write_text(text)
    say = ("--", "sh", "-c", "echo said >&2")

    def of(name: str, *options: str) -> tuple[str, list[str]]:
        done = keeper.run("-s", session, "-n", name, *options, *say)
        found = state.glob(f"file/m-{name}.*")
        return done.stderr, [each.read_text() for each in found]

    assert of("time") == ("", ["said\n"])
    assert of("git") == ("said\n", [])
    assert of("fetch", "--stderr=inherit") == ("said\n", [])
    assert of("tool", "--kind=exec") == ("said\n", [])
    monkeypatch.setenv("SCOPEKEEPER_SESSION", session)
    done = subprocess.run([SHELL, "-c", "echo said >&2"], capture_output=True, text=True)
    assert done.stderr == "said\n"
    shown = keeper.call("policy", "show", "main").stdout
    assert re.search(r"^stderr +file +.*config\.toml:2$", shown, flags=re.MULTILINE)


def test_what_cannot_be_executed_is_reported_to_the_caller(
    keeper: Scopekeeper, session: str, tmp_path: Path
) -> None:
    script = tmp_path / "script"
    script.write_text("#!/nonexistent/interpreter\n")
    script.chmod(0o755)
    for how in ("journal", "file"):
        done = keeper.run("-s", session, f"--stderr={how}", "--", str(script))
        assert (done.returncode, done.stderr) == (
            127, f"scopekeeper: {script}: No such file or directory\n",
        )  # fmt: skip


def test_a_journal_that_is_hidden_is_one_warning(keeper: Scopekeeper, session: str) -> None:
    if not ROOT:
        pytest.skip("only root can hide a folder from one process")
    line = 'mount -t tmpfs none /run/systemd/journal && exec "$@"'
    argv = keeper.argv("-s", session, "--stderr=journal", "--", "sh", "-c", "echo said >&2")
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", line, "sh", *argv], capture_output=True, text=True
    )
    assert done.returncode == 0
    warning, said = done.stderr.splitlines()
    assert said == "said"
    assert warning.startswith("scopekeeper: warning: --stderr: the journal cannot have it: ")


def test_a_journal_that_restarts_goes_on_with_the_stream(keeper: Scopekeeper, session: str) -> None:
    if not ROOT:
        pytest.skip("only root can restart it")
    script = "echo before >&2; read -r line; echo after >&2; exec sleep infinity"
    member = keeper.member(
        "-s", session, "--stderr=journal", "--", "sh", "-c", script, stdin=subprocess.PIPE
    )
    leaf = leaf_of(member)
    eventually(lambda: stream(leaf))
    subprocess.run(["systemctl", "restart", "systemd-journald"], check=True)
    member.stdin.write(b"\n")
    member.stdin.flush()
    eventually(lambda: [each["MESSAGE"] for each in stream(leaf)] == ["before", "after"])
    assert member.poll() is None


@pytest.mark.parametrize("how", ["journal", "file"])
def test_top_shows_it_beside_the_processes(
    keeper: Scopekeeper, session: str, viewer: Callable[..., Viewer], how: str
) -> None:
    script = "echo a line of its stderr >&2; exec sleep infinity"
    member = keeper.member("-s", session, "-n", "time", f"--stderr={how}", "--", "sh", "-c", script)
    if how == "journal":
        eventually(lambda: stream(leaf_of(member)))
    top = viewer("top", "-s", session, rows=50, cols=120)
    top.shows("1 member")
    top.type("\r")
    top.shows("time: stderr (")
    top.shows("  a line of its stderr")
    top.type("qq")
