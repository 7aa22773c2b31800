"""Runs with a terminal that the keeper holds: what they write, what is typed, how they end."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.machine import (
    PROGRAM,
    ROOT,
    Scopekeeper,
    cgroup_of,
    eventually,
    is_alive,
    leaves,
    record_of,
    rounds,
    scope_directories,
    scope_directory,
    text_of,
)

from .installed import UNIT, Installed
from .manager import Units, show, state, systemctl

pytestmark = pytest.mark.systemd

STREAM = """
import hashlib, os, sys, time
over, size, most = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
number = 0
while not os.path.exists(over):
    if number < most:
        seed = hashlib.sha256(str(number).encode()).hexdigest().encode()
        data = (seed * (size // 64 + 1))[:size - 1] + b"\\n"
        while data:
            data = data[os.write(1, data):]
        number += 1
    time.sleep(0.002)
with open(over, "w") as file:
    file.write(str(number))
"""
"""Writes one piece after the other until a file appears, and into that how many there were."""
RAW = ("sh", "-c", 'stty raw -echo; exec "$@"', "sh")


def stream(over: Path, size: int) -> tuple[str, ...]:
    """Return the words of a command that writes pieces of that size until there is such a file."""
    most = (60 << 20) // size
    return (*RAW, sys.executable, "-c", STREAM, str(over), str(size), str(most))


def written(pieces: int, size: int) -> str:
    """Return the checksum of what STREAM writes."""
    whole = hashlib.sha256()
    for number in range(pieces):
        seed = hashlib.sha256(str(number).encode()).hexdigest().encode()
        whole.update((seed * (size // 64 + 1))[: size - 1] + b"\n")
    return whole.hexdigest()


def logged(run: str) -> str:
    """Return the checksum of what is recorded."""
    done = subprocess.run([PROGRAM, "logs", run], capture_output=True)
    assert done.returncode == 0, done.stderr
    return hashlib.sha256(done.stdout).hexdigest()


def begin(keeper: Scopekeeper, session: str, *arguments: str) -> str:
    """Start a run and leave it; returns its id."""
    done = keeper.call("exec", "-d", "-s", session, *arguments)
    assert done.returncode == 0, done.stderr
    return str(done.stdout.strip())


def wait(keeper: Scopekeeper, run: str) -> dict[str, object]:
    """Wait until a run has ended, and return how."""
    done = keeper.call("wait", "--json", run)
    assert done.stdout, done.stderr
    (told,) = json.loads(done.stdout)["runs"]
    assert done.returncode == (125 if told["status"] is None else told["status"]), done.stderr
    return dict(told)


def pid_of(session: str) -> int:
    """Return the process of a session's only member, once it is the command."""

    def found() -> int:
        directory = scope_directory(session)
        names = leaves(directory) if directory else []
        pid = int(record_of(f"{directory}/{names[0]}").get("PID", 0)) if names else 0
        return pid if text_of(f"/proc/{pid}/comm").strip() not in ("", "scopekeeper") else 0

    return eventually(found)


def test_what_it_writes_and_its_status_are_there_after_it(
    installed: Installed, keeper: Scopekeeper, session: str
) -> None:
    run = begin(keeper, session, "-n", "talk", "--", "sh", "-c", "echo hello; tty; exit 3")
    ended = wait(keeper, run)
    assert (ended["reason"], ended["exit_status"], ended["status"]) == ("exited", 3, 3)
    output = keeper.call("logs", run).stdout
    assert output.startswith("hello\n/dev/pts/")
    assert "hello" in str(ended["output"])
    assert is_alive(installed.pid)
    eventually(lambda: installed.ends(session) == [("talk", "exited")])


def test_a_command_that_ends_at_once_has_ended_as_it_did(
    installed: Installed, keeper: Scopekeeper, session: str
) -> None:
    assert installed
    for number, _ in enumerate(rounds(10, least=3, seconds=1)):
        run = begin(keeper, f"{session}:{number}", "--", "sh", "-c", f"exit {number}")
        assert wait(keeper, run)["status"] == number


def test_it_runs_in_a_scope_of_its_own_with_a_terminal_of_its_own(
    installed: Installed, keeper: Scopekeeper, session: str
) -> None:
    assert installed
    run = begin(keeper, session, "-l", "cron", "--cols", "91", "--rows", "17", "--",
                "sh", "-c", "stty size; exec sleep infinity")  # fmt: skip
    pid = pid_of(session)
    scope = scope_directory(session)
    assert scope.endswith(f"-cron-{run}.scope")
    (listed,) = keeper.scopes("-s", session)
    assert (listed["run"], listed["kind"], listed["lifetime"]) == (run, "pty", "session")
    fields = text_of(f"/proc/{pid}/stat").rpartition(")")[2].split()
    leader, terminal = int(fields[3]), int(fields[4])
    assert leader == pid, "it leads a session"
    assert terminal, "with a terminal of its own"
    assert {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)} == {
        os.readlink(f"/proc/{pid}/fd/0")
    }
    eventually(lambda: keeper.call("logs", run).stdout == "17 91\n")
    assert cgroup_of(installed.pid) != cgroup_of(pid)
    assert keeper.call("stop", "-s", session).returncode == 0
    ended = wait(keeper, run)
    assert (ended["reason"], ended["status"]) == ("stopped by request", 143)


def test_a_command_that_cannot_be_started_leaves_nothing(
    installed: Installed, keeper: Scopekeeper, session: str
) -> None:
    assert installed
    done = keeper.call("exec", "-s", session, "--", "/nonexistent")
    assert (done.returncode, done.stderr) == (127, "scopekeeper: /nonexistent: not found\n")
    done = keeper.call("exec", "-d", "-s", session, "--require", "/nonexistent", "--", "true")
    assert done.returncode == 125
    assert "/nonexistent" in done.stderr
    assert not scope_directories()


def test_what_is_typed_is_read_and_an_end_of_input_too(
    installed: Installed, keeper: Scopekeeper, session: str
) -> None:
    assert installed
    run = begin(keeper, session, "--pipe", "--", "sh", "-c", "cat; echo over")
    assert keeper.call("send", run, "one\n").returncode == 0
    eventually(lambda: keeper.call("logs", run).stdout == "one\n")
    assert keeper.call("send", run, "--eof").returncode == 0
    assert wait(keeper, run)["status"] == 0
    assert keeper.call("logs", run).stdout == "one\nover\n"
    run = begin(keeper, session, "--", "sh", "-c", "stty -echo; echo ready; cat; echo over")
    eventually(lambda: "ready" in keeper.call("logs", run).stdout)
    assert keeper.call("send", run, "two\n").returncode == 0
    assert keeper.call("send", run, "--eof").returncode == 0
    assert wait(keeper, run)["status"] == 0
    assert keeper.call("logs", run).stdout == "ready\ntwo\nover\n"
    late = keeper.call("send", run, "three", "--enter")
    assert (late.returncode, "it has ended (exited)" in late.stderr) == (1, True)


@pytest.mark.parametrize("how", ["killed", "restarted"])
def test_no_byte_is_lost_or_doubled_by_what_happens_to_the_keeper(
    installed: Installed, keeper: Scopekeeper, session: str, tmp_path: Path, how: str
) -> None:
    over, size = tmp_path / "over", 5000
    run = begin(keeper, session, "--log-max", "64M", "--", *stream(over, size))
    pid = pid_of(session)
    for times, _ in enumerate(rounds(10, least=4), 1):
        before = eventually(lambda: installed.pid)
        if how == "killed":
            os.kill(before, signal.SIGKILL)
        else:
            assert systemctl("restart", UNIT).returncode == 0
        eventually(lambda before=before: installed.pid not in (0, before))
        eventually(lambda: state(UNIT) == "active")
        time.sleep(0.05 * times)
    assert is_alive(pid)
    over.touch()
    ended = wait(keeper, run)
    assert (ended["reason"], ended["status"]) == ("exited", 0)
    pieces = int(over.read_text())
    assert pieces > 100
    assert logged(run) == written(pieces, size)
    assert int(show(UNIT, "NFileDescriptorStore") or 0) == 0


def test_how_it_ended_is_known_although_there_was_no_keeper_then(
    installed: Installed, keeper: Scopekeeper, session: str, tmp_path: str
) -> None:
    marker = f"{tmp_path}/go"
    script = f"until test -e {marker}; do sleep 0.05; done; seq 1000; exit 9"
    run = begin(keeper, session, "--", "sh", "-c", script)
    pid = pid_of(session)
    os.kill(installed.pid, signal.SIGSTOP)
    with open(marker, "w", encoding="ascii"):
        pass
    eventually(lambda: not is_alive(pid))
    os.kill(installed.pid, signal.SIGKILL)
    ended = wait(keeper, run)
    assert (ended["exit_status"], ended["status"]) == (9, 9)
    expected = "".join(f"{number}\n" for number in range(1, 1001))
    assert keeper.call("logs", run).stdout == expected


def test_one_that_writes_without_end_and_one_that_reads_nothing_stall_nobody(
    installed: Installed, keeper: Scopekeeper, session: str
) -> None:
    flood = begin(keeper, f"{session}:flood", "--log-max", "1M", "--", "yes", "x" * 200)
    deaf = begin(keeper, f"{session}:deaf", "--", "sh", "-c", "stty raw -echo; sleep infinity")
    done = keeper.call("send", deaf, "y" * 100_000, "--timeout", "1s")
    assert done.returncode == 1
    assert "does not read its input" in done.stderr
    for number in range(5):
        run = begin(keeper, session, "--", "echo", f"turn {number}")
        assert wait(keeper, run)["status"] == 0
        assert keeper.call("logs", run).stdout == f"turn {number}\n"
    resident = int(text_of(f"/proc/{installed.pid}/statm").split()[1]) * os.sysconf("SC_PAGESIZE")
    assert resident < 100 << 20
    kept = Path(os.environ["SCOPEKEEPER_STATE"], "runs", flood)
    assert sum(size_of(path) for path in kept.iterdir()) < 2 << 20
    for each in ("flood", "deaf"):
        assert keeper.call("stop", "-s", f"{session}:{each}").returncode == 0
    assert wait(keeper, flood)["reason"] == "stopped by request"


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@pytest.mark.parametrize("option", ["--timeout", "--no-output-timeout"])
def test_one_that_takes_too_long_is_warned_of_and_ended(
    installed: Installed, keeper: Scopekeeper, session: str, option: str
) -> None:
    assert installed
    run = begin(keeper, session, option, "2s", "--grace", "1s", "--",
                "sh", "-c", "echo last words; exec sleep infinity")  # fmt: skip
    ended = wait(keeper, run)
    reason = "ttl" if option == "--timeout" else "no output"
    assert (ended["reason"], ended["status"]) == (reason, 143)
    assert ended["output"] == "last words\n"
    told = eventually(lambda: "last output" in (said := keeper.call("why", run).stdout) and said)
    assert ("its timeout of 2.0s" if reason == "ttl" else "nothing was written for 2.0s") in told
    assert told.splitlines()[-2:] == ["    last output:", "    last words"]
    journal = ["journalctl", *([] if ROOT else ["--user"]), "-u", UNIT, "--no-pager", "-o", "cat"]
    told = subprocess.run(journal, capture_output=True, text=True).stdout
    assert f"{run} " in told
    assert "will be ended in" in told


def test_one_that_writes_now_and_then_is_not_ended_for_writing_nothing(
    installed: Installed, keeper: Scopekeeper, session: str
) -> None:
    assert installed
    script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo $i; sleep 0.2; done"
    run = begin(keeper, session, "--no-output-timeout", "2s", "--", "sh", "-c", script)
    assert wait(keeper, run)["reason"] == "exited"


def test_more_than_the_store_takes_is_refused_and_nothing_is_lost(
    installed: Installed, keeper: Scopekeeper, session: str
) -> None:
    installed.write(store=8)
    first = begin(keeper, session, "--", "cat")
    done = keeper.call("exec", "-d", "-s", session, "--", "cat")
    assert done.returncode == 125
    assert "FileDescriptorStoreMax=8" in done.stderr
    assert len(scope_directories()) == 1
    before = installed.pid
    os.kill(before, signal.SIGKILL)
    eventually(lambda: installed.pid not in (0, before))
    assert keeper.call("send", first, "still there", "--enter").returncode == 0
    eventually(lambda: "still there\nstill there" in keeper.call("logs", first).stdout)


@pytest.mark.root
def test_another_user_can_neither_see_nor_type_nor_reach_the_keeper(
    installed: Installed, keeper: Scopekeeper, session: str
) -> None:
    run = begin(keeper, session, "--", "cat")
    other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", "HOME=/"]
    state_folder = os.environ["SCOPEKEEPER_STATE"]
    told = subprocess.run(
        [*other, f"SCOPEKEEPER_STATE={state_folder}", PROGRAM, "logs", run], capture_output=True,
        text=True,
    )  # fmt: skip
    assert told.returncode
    assert not told.stdout
    connect = "import socket,sys; socket.socket(socket.AF_UNIX).connect('/run/scopekeeper/keeper')"
    tried = subprocess.run([*other, sys.executable, "-c", connect], capture_output=True, text=True)
    assert "PermissionError" in tried.stderr
    assert is_alive(installed.pid)


def test_what_a_killed_gateway_has_started_is_found_with_its_session_and_can_be_adopted(
    installed: Installed, keeper: Scopekeeper, session: str
) -> None:
    assert installed
    gateway = keeper.popen(
        ["sh", "-c", f"{PROGRAM} exec -d -s {session} --owner $$ -- cat; exec sleep infinity"],
        stdout=subprocess.PIPE,
    )
    assert gateway.stdout
    run = gateway.stdout.readline().decode().strip()
    pid = pid_of(session)
    gateway.kill()
    gateway.wait()
    eventually(lambda: keeper.scopes("-s", session)[0]["state"] == "kept")
    (listed,) = keeper.scopes("-s", session)
    assert (listed["session"], listed["lane"], listed["run"]) == (session, "main", run)
    done = keeper.call("adopt", "-s", session, "--owner", str(os.getpid()))
    assert done.returncode == 0, done.stderr
    assert is_alive(pid)
    assert keeper.call("send", run, "hello", "--enter").returncode == 0
    eventually(lambda: "hello\nhello" in keeper.call("logs", run).stdout)


def test_a_masked_keeper_stays_down_and_nothing_is_begun_without_it(
    keeper: Scopekeeper, session: str
) -> None:
    folders = ("~/.config/systemd/user", "~/.config/systemd", "~/.config")
    made = [folder for folder in map(os.path.expanduser, folders) if not os.path.isdir(folder)]
    assert systemctl("mask", UNIT).returncode == 0
    try:
        done = keeper.call("exec", "-d", "-s", session, "--", "cat")
        assert (done.returncode, done.stdout) == (125, "")
        (line,) = done.stderr.splitlines()
        assert "masked" in line
        assert f"unmask {UNIT}" in line
        assert state(UNIT) == "inactive"
        assert not scope_directories()
        done = keeper.call("run", "-s", session, "--", "true")
        assert (done.returncode, done.stderr) == (0, ""), "a scope needs no keeper"
        assert f"{UNIT} is masked in" in keeper.call("doctor").stdout
    finally:
        systemctl("unmask", UNIT)
        for folder in made:
            if os.path.isdir(folder):
                os.rmdir(folder)


def test_a_keeper_is_started_where_none_is_installed(keeper: Scopekeeper, session: str) -> None:
    try:
        run = begin(keeper, session, "--", "cat")
        before = int(show(UNIT, "MainPID"))
        assert before
        os.kill(before, signal.SIGKILL)
        eventually(lambda: int(show(UNIT, "MainPID") or 0) not in (0, before))
        assert keeper.call("send", run, "hello", "--enter").returncode == 0
        eventually(lambda: "hello\nhello" in keeper.call("logs", run).stdout)
        assert keeper.call("stop", "-s", session).returncode == 0
        assert wait(keeper, run)["reason"] == "stopped by request"
    finally:
        systemctl("stop", UNIT)


def test_without_an_installed_keeper_systemd_runs_one_that_stores_descriptors(
    units: Units, keeper: Scopekeeper, session: str
) -> None:
    units.adopt(UNIT)
    assert show(UNIT, "LoadState") == "not-found"
    run = begin(keeper, session, "--", "sh", "-c", "echo hello; sleep infinity")
    wanted = {
        "Transient": "yes", "Type": "notify", "Restart": "on-failure", "LimitNOFILE": "524288",
        "FileDescriptorStoreMax": "32768", "WatchdogUSec": "1min", "ActiveState": "active",
        "CollectMode": "inactive-or-failed",
    }  # fmt: skip
    eventually(lambda: show(UNIT, "ActiveState") == "active")
    assert {name: show(UNIT, name) for name in wanted} == wanted
    before = pid_of(session)
    first = int(show(UNIT, "MainPID"))
    os.kill(first, signal.SIGKILL)
    eventually(lambda: int(show(UNIT, "MainPID")) not in (0, first))
    assert is_alive(before)
    assert "hello" in keeper.call("logs", run).stdout
    assert keeper.call("stop", run).returncode == 0
    assert wait(keeper, run)["reason"] == "stopped by request"
