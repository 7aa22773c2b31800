"""Process numbers are used again: whoever has one now is not who had it before.

The kernel is told which number it gave last, so that it comes to the same one again at once.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    PATIENCE,
    Scopekeeper,
    directory_of,
    environment_of,
    eventually,
    is_alive,
    processes,
    scope_directories,
    scope_directory,
    signal_set,
    text_of,
)

from .guard import Keeper

pytestmark = [
    pytest.mark.systemd,
    pytest.mark.root,
    pytest.mark.controllers,
    pytest.mark.machine,
    pytest.mark.usefixtures("expendable"),
]

UNTIL = """
import os, signal, sys
wanted, deaf, *command = int(sys.argv[1]), *sys.argv[2:]
def become():
    if deaf:
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))
    os.execvp(command[0], command)
if os.getpid() == wanted:
    become()
pid = 0
while pid != wanted:
    with open("/proc/sys/kernel/ns_last_pid", "w") as last:
        last.write(str(wanted - 1))
    pid = os.fork()
    if not pid:
        become() if os.getpid() == wanted else os._exit(0)
    if pid != wanted:
        os.waitpid(pid, 0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) % 256)
"""
"""Forks until it or a child has the number: that one becomes the command. Its status is ours."""


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test a state directory of its own."""
    folder = tmp_path / "state"
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(folder))
    return folder


def started(pid: int) -> str:
    """Return when a process began; '' where there is none."""
    fields = text_of(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields[19] if fields else ""


def end(process: "subprocess.Popen[bytes]") -> str:
    """Kill a process and reap it, so that its number is free; return when it had begun."""
    began = started(process.pid)
    process.kill()
    process.wait()
    return began


class Innocent:
    """A process that has the number of one that ended, and notices every signal."""

    def __init__(self, keeper: Scopekeeper, number: int, before: str) -> None:
        self.pid = number
        words = ["sleep", "12345"]
        self._parent = keeper.popen([sys.executable, "-ISc", UNTIL, str(number), "deaf", *words])
        eventually(lambda: text_of(f"/proc/{number}/comm") == "sleep\n")
        self._began = started(number)
        assert before
        assert self._began not in ("", before), "it is another process"
        assert "SCOPEKEEPER_MEMBER" not in environment_of(number)

    def is_unharmed(self) -> bool:
        """Tell whether it lives, and nobody has sent it a signal: it blocks them all."""
        pending = signal_set(self.pid, "ShdPnd") | signal_set(self.pid, "SigPnd")
        return is_alive(self.pid) and started(self.pid) == self._began and not pending

    def close(self) -> None:
        """End it."""
        os.kill(self.pid, signal.SIGKILL)
        self._parent.wait()


def reconcile(keeper: Scopekeeper, *options: str) -> list[dict[str, object]]:
    """Reconcile and return what it says of each member."""
    done = keeper.call("reconcile", "--json", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    found: list[dict[str, object]] = json.loads(done.stdout)["actions"]
    return found


def test_who_has_the_number_of_an_owner_that_ended_is_not_that_owner(
    guard: Keeper, keeper: Scopekeeper, session: str
) -> None:
    guard.start()
    owner = keeper.popen(list(FOREVER))
    member = keeper.member("-s", session, "--owner", str(owner.pid), "--", *FOREVER)
    eventually(lambda: is_watched(guard, owner.pid))
    os.kill(guard.pid, signal.SIGSTOP)  # it is to find the number taken already
    innocent = Innocent(keeper, owner.pid, end(owner))
    assert [scope["state"] for scope in keeper.scopes()] == ["orphan"]
    (action,) = reconcile(keeper, "--dry-run")
    assert (action["class"], action["action"]) == ("orphan", "stop")
    assert action["evidence"] == f"process {owner.pid} has ended; its number is another's now"
    os.kill(guard.pid, signal.SIGCONT)
    assert member.wait(PATIENCE) == -signal.SIGTERM
    (told,) = guard.ends(session)
    assert told["reason"] == "owner gone"
    assert f"process {owner.pid} has ended" in str(told["evidence"])
    assert innocent.is_unharmed()
    innocent.close()


def test_who_has_the_number_of_a_member_that_ended_is_not_that_member(
    keeper: Scopekeeper, session: str
) -> None:
    left = keeper.member("-s", session, "-n", "left", "--", "sh", "-c", "sleep 1000 & wait")
    scope = scope_directory(session)
    eventually(lambda: len(processes(directory_of(left.pid))) == 2)
    over = keeper.member("-s", session, "-n", "over", "--", *FOREVER)
    innocents = [Innocent(keeper, each.pid, end(each)) for each in (left, over)]
    (helper,) = processes(scope)
    (found,) = keeper.scopes()
    states = {each["name"]: (each["state"], each["processes"]) for each in found["members"]}
    assert states == {"left": ("leaderless", 1), "over": ("exited", 0)}
    found = {each["member"]: each["class"] for each in reconcile(keeper)}
    assert found == {"left": "leaderless", "over": "empty"}
    assert is_alive(helper)
    done = keeper.call("stop", "-s", session)
    assert done.returncode == 0
    assert "1 process terminated" in done.stdout
    assert not is_alive(helper)
    assert not scope_directories()
    told = json.loads(keeper.call("why", "--json", session).stdout)
    assert [(each["member"], each["reason"]) for each in told["ends"]] == [
        ("over", "unknown"),
        ("left", "stopped by request"),
    ]
    assert told["running"] == []
    for innocent in innocents:
        assert innocent.is_unharmed()
        innocent.close()


def test_two_members_with_one_number_have_each_their_own_end(
    guard: Keeper, keeper: Scopekeeper, session: str
) -> None:
    guard.start()
    words = keeper.argv("-s", session, "-n", "it", "--", "sh", "-c", "read line; exit $line")
    first = keeper.popen(words, stdin=subprocess.PIPE)
    number = first.pid
    eventually(lambda: is_watched(guard, number))
    first.communicate(b"3\n")
    assert first.returncode == 3
    again = [sys.executable, "-ISc", UNTIL, str(number), "", *words]
    second = keeper.popen(again, stdin=subprocess.PIPE)
    eventually(lambda: "SCOPEKEEPER_MEMBER" in environment_of(number))
    eventually(lambda: is_watched(guard, number))
    second.communicate(b"7\n")
    assert second.returncode == 7
    ends = eventually(lambda: guard.ends(session)[1:] and guard.ends(session))
    assert [(each["pid"], each["reason"], each["exit_status"]) for each in ends] == [
        (number, "exited", 3),
        (number, "exited", 7),
    ]


def is_watched(guard: Keeper, pid: int) -> bool:
    """Tell whether the keeper holds a descriptor of a process."""
    folder = f"/proc/{guard.pid}/fdinfo"
    lines = (text_of(f"{folder}/{name}").splitlines() for name in os.listdir(folder))
    return any(f"Pid:\t{pid}" in each for each in lines)
