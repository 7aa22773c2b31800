"""A tmux server is known by its pid, and busy with a pane while it blocks all signals."""

import os
import signal
import subprocess
import sys

import pytest

from scopekeeper.launch.tmux import wait_until_moved

LAUNCH = """
import os
from scopekeeper.launch.tmux import wait_until_moved
print(wait_until_moved({b"TMUX": b"/a,socket,%d,0" % os.getppid()}))
"""


def test_no_pane_of_the_parent_waits_for_nothing() -> None:
    for value in (b"", b"/socket", b"/socket,1", b",,", f"/socket,{os.getpid()},0".encode()):
        assert wait_until_moved({b"TMUX": value}) == ""
    assert wait_until_moved({}) == ""


def test_a_pane_waits_until_its_server_no_longer_blocks_signals() -> None:
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    try:
        with subprocess.Popen([sys.executable, "-c", LAUNCH], stdout=subprocess.PIPE) as launch:
            with pytest.raises(subprocess.TimeoutExpired):
                launch.wait(1)
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            assert launch.communicate()[0] == f"{os.getpid()}\n".encode()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def test_it_does_not_wait_for_ever() -> None:
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    try:
        done = subprocess.run([sys.executable, "-c", LAUNCH], capture_output=True, timeout=60)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    assert done.stdout == f"{os.getpid()}\n".encode()
