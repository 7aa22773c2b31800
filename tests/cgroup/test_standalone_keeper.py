"""The keeper without systemd: what it has, where it is, how it ends."""

import contextlib
import os
import re
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    PATIENCE,
    PROGRAM,
    ROOT,
    cgroup_of,
    directory_of,
    environment_of,
    eventually,
    is_alive,
    leaves,
    processes,
    text_of,
)
from tests.terminal import Terminal

from .container import Container

pytestmark = pytest.mark.systemd  # the lab's machine has the cgroup to delegate


def stat_of(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third on."""
    return text_of(f"/proc/{pid}/stat").rpartition(")")[2].split()


def test_it_has_nothing_of_its_caller_and_outlives_it(
    container: Container, session: str, tmp_path: Path
) -> None:
    open_file = tmp_path / "open"
    open_file.touch()
    script = (
        f"cd {tmp_path}; umask 077; trap '' INT QUIT HUP; export SECRET=1 TMPDIR={tmp_path};"
        f"{PROGRAM} exec -d -s {session} -- sleep 1000 9<open; echo left; exec sleep 1000"
    )
    # from within a scope, as a command that a gateway has started does it
    inside = container.words(PROGRAM, "run", "-s", "caller", "--", "sh", "-c", script)
    caller = Terminal(inside)
    run = caller.expect(r"([0-9a-f]{8})\r\nleft")[1]
    (keeper,) = container.keepers()
    (pid,) = eventually(lambda: container.of_run(run))
    files = {os.readlink(f"/proc/{keeper}/fd/{fd}") for fd in os.listdir(f"/proc/{keeper}/fd")}
    assert not [name for name in files if name.startswith(str(open_file)) or "/pts/0" in name]
    assert os.readlink(f"/proc/{keeper}/cwd") == "/"
    assert [os.readlink(f"/proc/{keeper}/fd/{fd}") for fd in "01"] == ["/dev/null"] * 2
    assert os.readlink(f"/proc/{keeper}/fd/2").endswith("/keeper.log")
    known = environment_of(keeper)
    assert not {"SECRET", "TMPDIR", "TERM"} & known.keys()
    assert {name for name in known if name.startswith("SCOPEKEEPER_")} == {
        "SCOPEKEEPER_CONFIG", "SCOPEKEEPER_STATE",
    }  # fmt: skip
    parent, session_id, terminal = (int(stat_of(keeper)[at]) for at in (1, 3, 4))
    assert terminal == 0
    assert session_id not in (keeper, caller.pid), "it can never get one"
    assert parent != caller.pid
    ignored = next(
        line for line in text_of(f"/proc/{keeper}/status").splitlines() if line.startswith("SigIgn")
    )
    of_caller = 1 << (signal.SIGINT - 1) | 1 << (signal.SIGQUIT - 1) | 1 << (signal.SIGHUP - 1)
    assert not int(ignored.split()[1], 16) & of_caller
    assert "Umask:\t0022" in text_of(f"/proc/{keeper}/status")
    assert ".scope" not in cgroup_of(keeper)
    home = os.path.dirname(directory_of(keeper))
    assert home == (f"{container.folder}/scopekeeper" if ROOT else container.folder)
    assert keeper not in map(int, text_of(f"{home}/cgroup.procs").split())
    caller.close()
    assert container.call("stop", "-s", "caller").returncode == 0
    assert is_alive(pid)
    assert container.keepers() == [keeper]
    assert "caller" not in container.call("ls", "--escaped").stdout


def test_its_socket_and_its_words_are_for_its_user_alone_and_a_stale_one_is_replaced(
    container: Container, session: str
) -> None:
    state_folder = os.environ["SCOPEKEEPER_STATE"]
    address = "/run/scopekeeper/keeper" if ROOT else f"{state_folder}/keeper"

    def mode(path: str) -> str:
        return container.do("stat", "-c", "%F %a %u", path).stdout.strip()

    for _ in range(2):
        assert container.call("exec", "-s", session, "--", "true").returncode == 0
        assert mode(address) == f"socket 600 {os.getuid()}"
        assert mode(f"{state_folder}/keeper.log").endswith(f" file 600 {os.getuid()}")
        assert stat.S_IMODE(os.stat(state_folder).st_mode) == 0o700
        (keeper,) = container.keepers()
        os.kill(keeper, signal.SIGKILL)
        eventually(lambda: not container.keepers())
    assert mode(address).startswith("socket")


def test_many_at_the_same_moment_start_one(container: Container, session: str) -> None:
    calls = [
        container.popen(
            container.words(PROGRAM, "exec", "-d", "-s", session, "--", "sleep", "1000"),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for _ in range(6)
    ]  # fmt: skip
    told = [call.communicate(timeout=PATIENCE) for call in calls]
    assert [words for _, words in told] == [b""] * 6
    runs = {out.decode().strip() for out, _ in told}
    assert {each["run"] for each in container.scopes("-s", session)} == runs
    assert len(runs) == 6
    assert len(eventually(container.keepers)) == 1


def test_it_leaves_when_there_is_nothing_to_keep(container: Container, session: str) -> None:
    server = container.popen(container.words(PROGRAM, "run", "-s", "mcp", "--", *FOREVER))
    eventually(lambda: container.scopes("-s", "mcp"))
    words = container.words(PROGRAM, "keeper", "--standalone", "--linger", "0s")
    keeper = container.popen(words, stdout=subprocess.PIPE)
    assert keeper.stdout.read() == b"", "it listens"
    assert container.call("exec", "-s", session, "--", "sh", "-c", "exit 6").returncode == 6
    assert keeper.poll() is None
    assert container.call("stop", "-s", "mcp").returncode == 0
    assert (server.wait(), keeper.wait(PATIENCE)) == (-signal.SIGTERM, 0)
    made = leaves(f"{container.folder}/scopekeeper" if ROOT else container.folder)
    assert made == [], "no folder of its own stays, nor a scope"


def test_without_systemd_a_plain_one_stands_alone_too(container: Container, session: str) -> None:
    script = f"{PROGRAM} keeper --linger infinity & echo $!; exec sleep infinity"
    words = container.words(PROGRAM, "run", "-s", session, "--", "sh", "-c", script)
    gateway = container.popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    keeper = int(gateway.stdout.readline())
    home = f"{container.folder}/scopekeeper" if ROOT else container.folder
    eventually(lambda: directory_of(keeper) == f"{home}/scopekeeper-keeper")
    assert container.call("exec", "-s", f"{session}:x", "--", "true").returncode == 0
    container.call("stop", "-s", session, "--escaped")
    assert gateway.wait(PATIENCE) == -signal.SIGTERM
    assert is_alive(keeper), "it is neither in the scope of its caller nor counted as of it"
    os.kill(keeper, signal.SIGTERM)
    eventually(lambda: not is_alive(keeper))
    assert "bus" not in gateway.stderr.read().decode()


def test_one_that_goes_away_under_a_call_is_replaced(container: Container, session: str) -> None:
    assert container.call("exec", "-s", session, "--", "true").returncode == 0
    (keeper,) = container.keepers()
    os.kill(keeper, signal.SIGSTOP)
    words = container.words(PROGRAM, "exec", "-s", session, "--", "echo", "served")
    call = container.popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def has_called() -> bool:
        links = f"/proc/{call.pid}/fd"
        with contextlib.suppress(FileNotFoundError):  # one that it has just closed
            return any("socket:" in os.readlink(f"{links}/{fd}") for fd in os.listdir(links))
        return False

    eventually(has_called)
    os.kill(keeper, signal.SIGKILL)
    assert call.communicate(timeout=PATIENCE) == (b"served\r\n", b"")
    assert call.returncode == 0
    assert container.keepers() != [keeper]


def test_one_that_cannot_stay_says_why_to_whoever_needs_it(
    container: Container, session: str
) -> None:
    folder = "/run/scopekeeper" if ROOT else os.environ["SCOPEKEEPER_STATE"]
    container.do("mkdir", "-p", "-m", "700", folder)
    container.do("mkdir", f"{folder}/keeper.lock")
    done = container.call("exec", "-d", "-s", session, "--", "true")
    assert done.returncode == 125
    assert re.search(
        r"keeper --standalone` does not stay: .*keeper\.lock: it is a directory", done.stderr
    )
    assert done.stderr.count("\n") == 1
    assert "/keeper.log" in done.stderr
    assert not processes(container.folder) - set(
        map(int, text_of(f"{container.folder}/cgroup.procs").split())
    )


def test_told_to_leave_it_says_whose_terminals_go(container: Container, session: str) -> None:
    run = container.call("exec", "-d", "-s", session, "--", "sleep", "1000").stdout.strip()
    (pid,) = eventually(lambda: container.of_run(run))
    (keeper,) = container.keepers()
    os.kill(keeper, signal.SIGTERM)
    eventually(lambda: not container.keepers())
    eventually(lambda: not is_alive(pid))
    assert f"{run} (sleep of {session}) loses its terminal" in container.log


def test_doctor_says_what_is_weaker(container: Container) -> None:
    told = container.call("doctor").stdout
    assert "no keeper inherits the terminals of runs" in told
    assert f"{os.environ['SCOPEKEEPER_STATE']}/keeper.log" in told
    assert "new scopes go to cgroup" in told
