"""A command about one scope opens as many files beside fifty other scopes as beside ten."""

import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.machine import FOREVER, PROGRAM, Scopekeeper, eventually, record_of, scope_directories

from .guard import Keeper

pytestmark = [
    pytest.mark.systemd,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace counts"),
]
FEW, MANY = 10, 50
NEW_SECONDS = 3.5
"""A scope that is newer may be on its way from a member that is stopped: it is always read."""


def opened(keeper: Scopekeeper, folder: Path, *arguments: str, has_folders: bool = True) -> int:
    """Return how many files of processes and cgroups a command opens, and folders.

    It has to succeed.
    """
    log = folder / "strace"
    strace = ["strace", "-f", "-qq", "-e", "trace=/^open", "-o", str(log)]
    process = keeper.popen([*strace, PROGRAM, *arguments], stdin=subprocess.DEVNULL)
    assert process.wait(60) == 0
    found = re.findall(r'open\w*\([^"]*"/(?:sys|proc)/[^"]*", ([A-Z_|]*)', log.read_text())
    return len([flags for flags in found if has_folders or "O_DIRECTORY" not in flags])


def settled() -> bool:
    born = [int(record_of(each).get("BOOTTIME", "0")) for each in scope_directories()]
    return time.clock_gettime(time.CLOCK_BOOTTIME) - max(born) / 1e6 > NEW_SECONDS


@pytest.mark.parametrize("guarded", [True, False], ids=["keeper", "alone"])
def test_a_command_about_one_scope_reads_no_other(
    keeper: Scopekeeper, guard: Keeper, session: str, tmp_path: Path, guarded: bool
) -> None:
    if guarded:
        guard.start()
    counts: list[dict[str, int]] = []
    for count in (FEW, MANY):
        for number in range(count - len(scope_directories())):
            keeper.member("-s", f"{session}:{count}:{number}", "--", *FOREVER)
        eventually(settled)
        one, two = f"{session}:{count}:1", f"{session}:{count}:2"
        assert keeper.call("history").returncode == 0  # without a keeper, this reads all
        words: dict[str, int] = {}
        calls = {
            "ls": ["ls", "-s", one],
            "ls by a word": ["ls", one],
            "join": ["run", "-s", one, "-n", "x", "--", "true"],
            "preview": ["stop", "-s", one, "--dry-run"],
            "stop": ["stop", "-s", one],
            "stop by a word": ["stop", two],
        }
        if guarded:
            calls = {"why": ["why", "-s", one], **calls}
            # the word may be that of a member: it reads the names of all members
            words = {"why by a word": opened(keeper, tmp_path, "why", one, has_folders=False)}
        found = {what: opened(keeper, tmp_path, *argv) for what, argv in calls.items()}
        counts.append(words | found)
    few, many = counts
    assert {what: many[what] - few[what] for what in few if many[what] > few[what] + 3} == {}
