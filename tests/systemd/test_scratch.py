"""A member of `run --scratch` finds its folder when it begins, and leaves none when it ends."""

import json
import os
import re
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    PATIENCE,
    PROGRAM,
    ROOT,
    SHELL,
    Scopekeeper,
    environment_of,
    eventually,
    scope_directories,
    text_of,
    wait_for_command,
)

from .guard import Keeper
from .installed import UNIT
from .manager import Units

pytestmark = pytest.mark.systemd

SHOW = ("sh", "-c", 'echo "$TMPDIR"; stat -c "%a %u %F" "$TMPDIR"; ls -A "$TMPDIR"')
FILL = ("sh", "-c", 'head -c 3000000 /dev/urandom >"$TMPDIR/file"; exec sleep infinity')


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep state, rules and scratch folders of a test in folders of its own."""
    for name in ("SCRATCH", "CONFIG"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"SCOPEKEEPER_{name}", str(tmp_path / name))
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state"))
    return tmp_path / "SCRATCH" / f"scopekeeper-{os.geteuid()}"


@pytest.fixture
def rules(tmp_path: Path) -> Callable[[str], None]:
    """Give a hand that writes the user's policy."""
    return lambda text: (tmp_path / "CONFIG" / "config.toml").write_text(text) and None


def left(place: Path) -> list[str]:
    return os.listdir(place) if place.exists() else []


def claims(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "state").glob("owned/*.claim"))


def folder_of(process: "subprocess.Popen[bytes]") -> str:
    wait_for_command(process)
    return environment_of(process.pid)["TMPDIR"]


def document(keeper: Scopekeeper, session: str) -> dict[str, object]:
    """Return the JSON object of the one member of a session."""
    (scope,) = keeper.scopes("-s", session)
    (member,) = scope["members"]
    return member


def test_the_command_finds_it_empty_and_its_own(
    keeper: Scopekeeper, session: str, place: Path
) -> None:
    done = keeper.run("-s", session, "-l", "cron", "-n", "time", "--scratch", "--", *SHOW)
    assert (done.returncode, done.stderr) == (0, "")
    path, kind = done.stdout.splitlines()
    assert kind == f"700 {os.geteuid()} directory"
    assert os.path.dirname(path) == str(place)
    assert re.fullmatch(r"test_\w+-cron-time-[0-9a-f]{8}", os.path.basename(path))
    assert len(os.path.basename(path)) <= 41


def test_without_a_keeper_reconcile_removes_it_and_the_history_has_its_size(
    keeper: Scopekeeper, session: str, place: Path, tmp_path: Path
) -> None:
    member = keeper.member("-s", session, "-n", "big", "--scratch", "--", *FILL)
    path = folder_of(member)
    eventually(lambda: document(keeper, session)["scratch_bytes"] >= 3_000_000)
    shown = document(keeper, session)
    assert (shown["scratch_path"], shown["scratch_complete"]) == (path, True)
    assert "  3M scratch  " in keeper.call("ls", "-s", session, "--members").stdout
    assert f"it has 3M scratch in {path}" in keeper.call("why", session).stdout
    assert keeper.call("reconcile").returncode == 0
    assert os.path.isdir(path)
    member.kill()
    member.wait()
    done = json.loads(keeper.call("reconcile", "--json").stdout)["owned"]
    assert [(each["path"], each["outcome"]) for each in done] == [(path, "removed")]
    assert done[0]["scratch_bytes"] == shown["scratch_bytes"]
    assert (left(place), claims(tmp_path)) == ([], [])
    (end,) = json.loads(keeper.call("history", "-s", session, "--json").stdout)["ends"]
    assert end["scratch_bytes"] == shown["scratch_bytes"]
    assert "; 3M in its scratch folder." in keeper.call("why", session).stdout


def test_a_stop_removes_it_with_the_member_and_no_siblings(
    keeper: Scopekeeper, session: str, place: Path
) -> None:
    one = keeper.member("-s", session, "-n", "one", "--scratch", "--", *FOREVER)
    two = keeper.member("-s", session, "-n", "two", "--scratch", "--", *FOREVER)
    plain = keeper.member("-s", session, "-n", "plain", "--", *FOREVER)
    first, second = folder_of(one), folder_of(two)
    assert environment_of(plain.pid).get("TMPDIR") == os.environ.get("TMPDIR")
    assert keeper.call("stop", "-s", session, "-n", "one").returncode == 0
    assert (os.path.exists(first), os.path.exists(second)) == (False, True)
    assert keeper.call("stop", "-s", session).returncode == 0
    assert left(place) == []


def test_a_keeper_removes_it_at_once_and_records_its_size(
    guard: Keeper, keeper: Scopekeeper, session: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(guard.state))
    guard.start()
    member = keeper.member("-s", session, "-n", "big", "--scratch", "--", *FILL)
    eventually(lambda: document(keeper, session)["scratch_bytes"] >= 3_000_000)
    member.kill()
    member.wait()
    eventually(lambda: not left(place))
    end = eventually(lambda: next((x for x in guard.ends(session) if x["scratch_bytes"]), None))
    assert end["scratch_bytes"] >= 3_000_000
    assert end["reason"] == "signalled"


def test_what_it_leaves_behind_keeps_it_until_that_has_ended(
    keeper: Scopekeeper, session: str, place: Path
) -> None:
    inner = (
        f"{PROGRAM} run -s {session}:inner --lifetime detached -- sleep infinity >/dev/null 2>&1 &"
    )
    done = keeper.run("-s", session, "--scratch", "--", "sh", "-c", f"{inner} echo $TMPDIR")
    path = done.stdout.strip()
    eventually(lambda: keeper.scopes("-s", f"{session}:inner"))
    assert keeper.call("reconcile").returncode == 0
    assert os.path.isdir(path)
    assert keeper.call("stop", "-s", f"{session}:inner").returncode == 0
    assert keeper.call("reconcile").returncode == 0
    assert left(place) == []


def test_a_process_that_goes_on_as_another_member_keeps_its_folder(
    keeper: Scopekeeper, session: str, place: Path
) -> None:
    inner = (PROGRAM, "run", "-s", f"{session}:inner", "-n", "inner", "--", *FOREVER)
    process = keeper.start("-s", session, "--scratch", "--", *inner)
    eventually(lambda: keeper.scopes("-s", f"{session}:inner"))
    path = folder_of(process)
    assert keeper.call("reconcile").returncode == 0
    assert os.path.isdir(path)
    process.kill()
    process.wait()
    keeper.call("reconcile")
    assert left(place) == []


def test_rules_give_one_to_what_run_and_exec_start_and_to_no_shell_command(
    keeper: Scopekeeper, session: str, rules: Callable[[str], None], place: Path, units: Units,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    rules("[lanes.default]\nscratch = true\n[servers.plain]\nscratch = false\n")
    units.adopt(UNIT)
    monkeypatch.setenv("TMPDIR", "/tmp")
    show = ("sh", "-c", "echo $TMPDIR")
    assert keeper.run("-s", session, "-n", "it", "--", *show).stdout.startswith(f"{place}/")
    assert keeper.run("-s", session, "-n", "plain", "--", *show).stdout == "/tmp\n"
    own = keeper.run("-s", session, "--", "env", "TMPDIR=/var/tmp", *show)
    assert own.stdout == "/var/tmp\n", "what is said last wins"
    ran = keeper.call("exec", "--pipe", "-s", session, "--", *show)
    assert ran.stdout.strip().startswith(f"{place}/"), ran.stderr
    monkeypatch.setenv("SCOPEKEEPER_SESSION", session)
    said = subprocess.run([SHELL, "-c", "echo $TMPDIR; true"], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL)  # fmt: skip
    assert (said.stdout, said.stderr) == ("/tmp\n", "")
    keeper.call("stop", "-s", session)
    eventually(lambda: keeper.call("reconcile").returncode == 0 and not left(place))


def test_if_it_cannot_be_made_nothing_starts_and_nothing_is_ended(
    keeper: Scopekeeper, session: str, place: Path, tmp_path: Path
) -> None:
    before = keeper.member("-s", session, "-n", "time", "--", *FOREVER)
    scopes = scope_directories()
    place.write_text("no folder")
    mark = tmp_path / "began"
    for more in ((), ("--replace",), ("--if-unavailable", "warn")):
        done = keeper.run("-s", session, "-n", "time", "--scratch", *more, "--", "touch", str(mark))
        assert (done.returncode, done.stdout) == (125, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"scopekeeper: cannot make the scratch folder {place}: ")
        assert line.endswith("; SCOPEKEEPER_SCRATCH=FOLDER names another place")
    assert before.poll() is None
    assert not mark.exists()
    assert (scope_directories(), claims(tmp_path)) == (scopes, [])


@pytest.mark.skipif(not ROOT, reason="only root mounts")
@pytest.mark.parametrize(("options", "words"), [("size=4k,nr_inodes=2", "No space left on device"),
                                                ("ro", "Read-only file system")])  # fmt: skip
def test_a_full_or_read_only_disk_is_one_line(
    keeper: Scopekeeper, session: str, tmp_path: Path, options: str, words: str
) -> None:
    launch = f"exec {PROGRAM} run -s {session} --scratch -- echo here"
    line = f"mount -t tmpfs -o {options} none {tmp_path}/SCRATCH && {launch}"
    done = subprocess.run(["unshare", "--mount", "sh", "-c", line], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (125, "")
    (said,) = done.stderr.splitlines()
    assert words in said
    assert not keeper.scopes("-s", session)
    assert claims(tmp_path) == []


def test_a_launch_that_is_refused_leaves_no_folder(
    keeper: Scopekeeper, session: str, rules: Callable[[str], None], place: Path, tmp_path: Path
) -> None:
    rules("[lanes.main]\nmax_scopes = 1\n")
    keeper.member("-s", session, "--", *FOREVER)
    done = keeper.run("-s", f"{session}:other", "--scratch", "--", "true")
    assert done.returncode == 125
    assert (left(place), claims(tmp_path)) == ([], [])


@pytest.mark.skipif(ROOT, reason="root may make a scope anywhere")
def test_uncontained_it_has_none_and_that_is_reported(
    keeper: Scopekeeper, session: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", "/tmp")
    done = keeper.run("-s", session, "--placement", "cgroup:/sys/fs/cgroup", "--scratch",
                      "--if-unavailable", "warn", "--", "sh", "-c", "echo $TMPDIR")  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "/tmp\n")
    assert "warning: --scratch has no effect: nothing can tell" in done.stderr
    assert left(place) == []


def test_many_that_start_together_have_one_each(
    keeper: Scopekeeper, session: str, place: Path
) -> None:
    launches = [
        keeper.start("-s", session, "-n", "same", "--scratch", "--", "sh", "-c", "echo $TMPDIR",
                     stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(12)
    ]  # fmt: skip
    said = [launch.communicate(timeout=PATIENCE) for launch in launches]
    assert {error for _, error in said} == {b""}
    assert len({path for path, _ in said}) == 12
    assert keeper.call("reconcile").returncode == 0
    assert left(place) == []


def test_no_link_in_it_is_followed(
    keeper: Scopekeeper, session: str, place: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_bytes(b"x" * 5_000_000)
    line = f"ln -s {kept} $TMPDIR/link; ln -s / $TMPDIR/root; exec sleep infinity"
    member = keeper.member("-s", session, "--scratch", "--", "sh", "-c", line)
    path = folder_of(member)
    eventually(lambda: os.path.lexists(f"{path}/root"))
    shown = document(keeper, session)
    assert (shown["scratch_bytes"], shown["scratch_complete"]) == (0, True)
    assert keeper.call("stop", "-s", session).returncode == 0
    assert left(place) == []
    assert (kept / "file").stat().st_size == 5_000_000


def test_another_folder_in_its_place_is_shown_as_unknown_and_stays(
    keeper: Scopekeeper, session: str
) -> None:
    line = 'cd /; mv "$TMPDIR" "$TMPDIR.was"; mkdir "$TMPDIR"; exec sleep infinity'
    member = keeper.member("-s", session, "--scratch", "--", "sh", "-c", line)
    path = folder_of(member)
    eventually(lambda: os.path.isdir(f"{path}.was") and os.path.isdir(path))
    shown = document(keeper, session)
    assert (shown["scratch_path"], shown["scratch_bytes"]) == (path, None)
    assert "  ? scratch  " in keeper.call("ls", "-s", session, "--members").stdout
    done = keeper.call("stop", "-s", session)
    assert f"{path}: is another thing now; left alone" in done.stdout
    assert os.path.isdir(path)


def test_disown_keeps_it(keeper: Scopekeeper, session: str) -> None:
    path = folder_of(keeper.member("-s", session, "--scratch", "--", *FOREVER))
    Path(path, "result").touch()
    assert keeper.call("disown", path).returncode == 0
    assert keeper.call("stop", "-s", session).returncode == 0
    assert keeper.call("reconcile").returncode == 0
    assert os.listdir(path) == ["result"]


def test_above_its_maximum_it_is_reported_and_not_ended(
    guard: Keeper, keeper: Scopekeeper, session: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    told = tmp_path / "told"
    guard.policy(
        '[lanes.default]\nscratch = true\nscratch_max = "1M"\n'
        '[on_event.big]\nevents = ["ScratchHigh"]\nshell = true\n'
        f"command = 'cat >>{told}'\n"
    )
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(guard.state))
    monkeypatch.setenv("SCOPEKEEPER_CONFIG", str(guard.rules))
    guard.start()
    member = keeper.member("-s", session, "-n", "big", "--", *FILL)
    path = folder_of(member)
    event = json.loads(eventually(lambda: told.exists() and text_of(told), seconds=3 * PATIENCE))
    assert (event["event"], event["member"], event["path"]) == ("ScratchHigh", "big", path)
    assert event["limit_bytes"] == 1 << 20
    assert event["scratch_bytes"] >= 3_000_000
    assert event["message"].startswith("big of test:")
    assert event["message"].endswith(" has 3M in its scratch folder, scratch_max is 1M")
    assert member.poll() is None
    shown = keeper.call("ls", "-s", session, "--members").stdout
    assert "  3M scratch (scratch_max 1M)  " in shown
    assert "3M scratch (scratch_max 1M)" in keeper.call("why", session).stdout
    found = keeper.call("doctor").stdout
    assert f"big of {session} has 3M in {path}, above its scratch_max of 1M" in found
    assert keeper.call("stop", "-s", session).returncode == 0
    assert member.wait(PATIENCE) == -signal.SIGTERM


def test_wrap_writes_it(keeper: Scopekeeper, tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    file.write_text(json.dumps({"mcpServers": {"time": {"command": "mcp-server-time"}}}))
    done = keeper.call("wrap", "--format", "claude-code", "--scratch", str(file))
    assert done.returncode == 0, done.stderr
    (server,) = json.loads(file.read_text())["mcpServers"].values()
    assert "--scratch" in server["args"]


def test_by_default_it_is_on_the_disk_of_its_user(
    keeper: Scopekeeper, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SCOPEKEEPER_SCRATCH")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    done = keeper.run("-s", session, "--scratch", "--", *SHOW)
    path = done.stdout.splitlines()[0]
    home = Path("/var/cache" if ROOT else "~/.cache").expanduser()
    assert os.path.dirname(path) == f"{home}/scopekeeper/tmp"
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700
    assert keeper.call("reconcile").returncode == 0
    assert not os.path.exists(path)


def test_the_trial_of_doctor_leaves_none(
    keeper: Scopekeeper, rules: Callable[[str], None], place: Path
) -> None:
    rules("[lanes.default]\nscratch = true\n")
    assert "a scope was created, recorded and stopped" in keeper.call("doctor").stdout
    assert left(place) == []
