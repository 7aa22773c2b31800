"""Runs a command of this program in a child, and returns what it printed.

A child, so that a command that hangs, crashes or ends the process costs its own answer only. It is
a fork without a new program: it is called as its caller was, with the same rights and variables.
"""

import contextlib
import os
import select
import signal
import sys
import time
from dataclasses import dataclass

from scopekeeper.errors import ScopekeeperError

_MOST = 64 << 20
"""Bytes of one answer."""
_UNWIND_SECONDS = 3.0
"""How long a command that is interrupted may take to undo what it has begun."""


@dataclass(frozen=True, slots=True)
class Printed:
    """What a command printed, and its exit status."""

    output: bytes
    errors: bytes
    status: int


def run(arguments: list[str], seconds: float) -> Printed:
    """Run the program with these arguments; raises ScopekeeperError if it does not answer."""
    sys.stdout.flush()
    sys.stderr.flush()
    output, errors = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        _become(arguments, output[1], errors[1])
    os.close(output[1])
    os.close(errors[1])
    found: dict[int, bytearray] = {output[0]: bytearray(), errors[0]: bytearray()}
    is_over = True
    try:
        is_over = _collect(found, time.monotonic() + seconds)
    finally:
        status = _ended(pid, hangs=not is_over)
        os.close(output[0])
        os.close(errors[0])
    if not is_over:
        raise ScopekeeperError(f"no answer in {seconds:.0f} s")
    return Printed(bytes(found[output[0]]), bytes(found[errors[0]]), status)


def _become(arguments: list[str], output: int, errors: int) -> None:
    """Be the command, and end with it."""
    status = 1
    try:
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (output, 1), (errors, 2)):
            os.dup2(source, target)
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        sys.argv[1:] = arguments
        from scopekeeper.cli.main import main

        main()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _collect(found: dict[int, bytearray], deadline: float) -> bool:
    """Read until both ends are closed; return False if the time is over, or it is too much."""
    open_ends = set(found)
    while open_ends:
        left = deadline - time.monotonic()
        ready = select.select(list(open_ends), [], [], max(left, 0.0))[0] if left > 0 else []
        if not ready:
            return False
        for end in ready:
            chunk = os.read(end, 1 << 16)
            found[end] += chunk
            if not chunk:
                open_ends.discard(end)
            elif len(found[end]) > _MOST:
                return False
    return True


def _ended(pid: int, *, hangs: bool) -> int:
    """Wait for the child and return its exit status; interrupt one that hangs, then kill it.

    An interrupt from the terminal has reached it too, and a second one would end what it undoes.
    It is not reaped before this, so the pid is its own.
    """
    if hangs:
        os.kill(pid, signal.SIGINT)
    deadline = time.monotonic() + _UNWIND_SECONDS
    ended, status = os.waitpid(pid, os.WNOHANG)
    while not ended and time.monotonic() < deadline:
        time.sleep(0.005)
        ended, status = os.waitpid(pid, os.WNOHANG)
    if not ended:
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)
