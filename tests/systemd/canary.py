"""Processes that nothing may ever signal: they report each signal that reaches them."""

import os
import select
import subprocess
import sys
from pathlib import Path

from tests.machine import Scopekeeper, is_alive, signal_set

_REPORTS = """
import os, signal, sys
def report(number, _):
    os.write(1, b"signal %d\\n" % number)
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
    signal.signal(number, report)
os.write(1, b"sings\\n")
while True:
    signal.pause()
"""
COMMAND = (sys.executable, "-c", _REPORTS)


class Canaries:
    """The member of another session, and a process of the same user outside of every scope."""

    def __init__(self, keeper: Scopekeeper, session: str) -> None:
        how = {"stdout": subprocess.PIPE}
        self.session = f"{session}:canary"
        self.member = keeper.start("-s", self.session, "-n", "canary", "--", *COMMAND, **how)
        self.outside = keeper.popen(list(COMMAND), stdin=subprocess.DEVNULL, **how)
        for each in (self.member, self.outside):
            assert each.stdout is not None
            assert each.stdout.readline() == b"sings\n"

    def check(self) -> None:
        """Assert that both live, and that no signal has reached them."""
        for each in (self.member, self.outside):
            assert is_alive(each.pid)
            assert each.stdout is not None
            if select.select([each.stdout], [], [], 0)[0]:
                raise AssertionError(os.read(each.stdout.fileno(), 4096))
            pending = signal_set(each.pid, "SigPnd") | signal_set(each.pid, "ShdPnd")
            assert not pending, hex(pending)
            assert "State:\tT" not in Path(f"/proc/{each.pid}/status").read_text()
