"""The children of a process are those of all its threads."""

import os
import subprocess
import sys

import pytest

from scopekeeper.kernel.children import children_of

TWO = """
import subprocess, sys, threading
def start(): print(subprocess.Popen(["sleep", "1000"]).pid, flush=True)
start()
gone = threading.Event()
if sys.argv[1] == "threads":
    begin = lambda: (start(), gone.wait())
    threading.Thread(target=begin, daemon=True).start()
else:
    start()
sys.stdin.read()
"""


@pytest.mark.parametrize("how", ["one thread", "threads"])
def test_children_are_found_of_all_threads(how: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", TWO, how], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        started = {int(parent.stdout.readline()) for _ in range(2)}
        try:
            assert set(children_of(parent.pid)) == started
        finally:
            for pid in started:
                os.kill(pid, 9)
            parent.communicate()


def test_what_has_ended_has_no_children() -> None:
    with subprocess.Popen(["true"]) as ended:
        pass
    assert children_of(ended.pid) == []
