"""What a stop, a list and a new scope cost, as numbers of system calls: no clock is read.

One scope more costs a stop and a list so many calls, whatever else the machine does. The bounds are
a tenth above what was counted, so that a file which is read twice shows.
"""

import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.machine import PROGRAM, Scopekeeper

pytestmark = pytest.mark.systemd

FIVE = ("sh", "-c", "for i in 1 2 3 4; do sleep 1000 & done; echo; wait")
FEW, MANY = 2, 12


def calls(log: Path, *arguments: str) -> Counter[str]:
    """Return how often a command of the program makes each system call."""
    trace = ["strace", "-f", "-qq", "-e", "signal=none", "-o", str(log)]
    done = subprocess.run(
        [*trace, PROGRAM, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=180
    )
    assert done.returncode == 0, done.stderr
    return Counter(line.split(None, 1)[1].partition("(")[0] for line in log.open())


def five_each(keeper: Scopekeeper, session: str, scopes: int) -> None:
    """Start a member of five processes in each of so many scopes."""
    for number in range(scopes):
        member = keeper.start(
            "-s", f"{session}-{number}", "--session-id", session, "--", *FIVE,
            stdout=subprocess.PIPE,
        )  # fmt: skip
        assert member.stdout.readline() == b"\n"


def of_one_more(few: Counter[str], many: Counter[str], call: str) -> float:
    """Return how many calls of this kind one scope more costs."""
    return (many[call] - few[call]) / (MANY - FEW)


def test_a_stop_reads_each_file_of_a_scope_once(
    keeper: Scopekeeper, session: str, tmp_path: Path
) -> None:
    counted = []
    for scopes in (FEW, MANY):
        five_each(keeper, f"{session}{scopes}", scopes)
        counted.append(calls(tmp_path / "log", "stop", "--session-id", f"{session}{scopes}"))
    # two of them choose the scope, among those that the command does not read
    assert of_one_more(*counted, "getxattr") <= 10
    assert of_one_more(*counted, "openat") <= 50
    assert of_one_more(*counted, "newfstatat") <= 33


def test_a_list_reads_each_file_of_a_scope_once(
    keeper: Scopekeeper, session: str, tmp_path: Path
) -> None:
    counted = []
    for scopes in (FEW, MANY - FEW):
        five_each(keeper, f"{session}{scopes}", scopes)
        counted.append(calls(tmp_path / "log", "ls"))
    assert of_one_more(*counted, "getxattr") <= 4.4
    assert of_one_more(*counted, "openat") <= 8


def test_a_new_scope_takes_two_calls_to_systemd(
    keeper: Scopekeeper, session: str, tmp_path: Path
) -> None:
    """One for the scope; one for KillMode of the service that this test runs in as a guest."""
    made = calls(tmp_path / "log", "run", *keeper.options, "-s", session, "--", "true")
    assert 0 < made["sendto"] <= 2
