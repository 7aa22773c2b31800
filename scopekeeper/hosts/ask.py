"""Runs one program for each of several hosts at once, and collects what it prints, bounded."""

import contextlib
import os
import selectors
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

from scopekeeper.errors import ScopekeeperError

AT_ONCE = 32
"""Programs that run at the same time."""
MOST_OUT = 32 << 20
"""Bytes of an answer: more than a thousand scopes have."""
MOST_ERR = 64 << 10
"""Bytes that are kept of standard error."""
_PIECE = 1 << 16


@dataclass(slots=True)
class Reply:
    """What one program printed, and how it ended."""

    status: int | None = None
    """Its exit status, negative for a signal; None if it was ended here."""
    out: bytes = b""
    err: bytes = b""
    problem: str = ""
    """Why it was ended here."""


@dataclass(slots=True)
class _Running:
    host: str
    process: subprocess.Popen[bytes]
    ended: int
    """The pidfd that becomes readable when the process ends.

    The end of its output is no sign: a connection that ssh keeps for later calls can hold that.
    """
    until: float
    out: bytearray = field(default_factory=bytearray)
    err: bytearray = field(default_factory=bytearray)
    problem: str = ""

    def take(self, piece: bytes, *, is_error: bool) -> None:
        """Keep what was read, up to the bounds."""
        if is_error:
            self.err += piece[: MOST_ERR - len(self.err)]
            return
        self.out += piece
        if len(self.out) > MOST_OUT:
            self.out.clear()
            self.problem = f"its answer is longer than {MOST_OUT >> 20}M"


def ask(
    calls: Mapping[str, Sequence[str]], seconds: float | None, replies: dict[str, Reply]
) -> None:
    """Run the words of each host, and put its reply into replies as soon as it is there.

    seconds is how long each may take, None without a bound. If this is interrupted, the programs
    are ended, and replies has those of hosts that had answered. Raises ScopekeeperError if a
    program cannot be started.
    """
    waiting = list(calls.items())
    running: dict[str, _Running] = {}
    with selectors.DefaultSelector() as selector, _all_ended(running):
        while waiting or running:
            while waiting and len(running) < AT_ONCE:
                host, words = waiting.pop(0)
                running[host] = _start(host, words, seconds, selector)
            for each in _ready(selector, running):
                _close(each, selector)
                del running[each.host]
                status = None if each.problem else each.process.returncode
                replies[each.host] = Reply(status, bytes(each.out), bytes(each.err), each.problem)


@contextlib.contextmanager
def _all_ended(running: Mapping[str, _Running]) -> Iterator[None]:
    """End the programs that still run when something is raised."""
    try:
        yield
    except BaseException:
        for each in running.values():
            each.process.kill()
            each.process.wait()
            os.close(each.ended)
        raise


def _start(
    host: str, words: Sequence[str], seconds: float | None, selector: selectors.BaseSelector
) -> _Running:
    try:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    except FileNotFoundError:
        raise ScopekeeperError(
            f"{words[0]} is not installed", "the package is openssh-client"
        ) from None
    except OSError as error:
        raise ScopekeeperError(f"cannot start {words[0]}: {error.strerror}") from None
    until = float("inf") if seconds is None else time.monotonic() + seconds
    started = _Running(host, process, os.pidfd_open(process.pid), until)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, selectors.EVENT_READ, started)
    selector.register(started.ended, selectors.EVENT_READ, started)
    return started


def _ready(selector: selectors.BaseSelector, running: Mapping[str, _Running]) -> list[_Running]:
    """Wait, take what was printed, and return the programs that have ended, or were ended here."""
    soonest = min(each.until for each in running.values())
    patience = None if soonest == float("inf") else max(soonest - time.monotonic(), 0)
    done: list[_Running] = []
    for key, _ in selector.select(patience):
        each: _Running = key.data
        if key.fileobj == each.ended:
            done.append(each)
        elif not _read(key.fileobj, each):  # type: ignore[arg-type]  # a stream: registered above
            selector.unregister(key.fileobj)
    now = time.monotonic()
    for each in running.values():
        if each in done or (not each.problem and now < each.until):
            continue
        each.problem = each.problem or "no answer in time"
        each.process.kill()
        done.append(each)
    return done


def _read(stream: IO[bytes], each: _Running) -> bool:
    """Take what a stream has; return whether more can come."""
    try:
        piece = os.read(stream.fileno(), _PIECE)
    except BlockingIOError:
        return True
    each.take(piece, is_error=stream is each.process.stderr)
    return bool(piece)


def _close(each: _Running, selector: selectors.BaseSelector) -> None:
    """Take the rest of a program that has ended, and let go of it."""
    each.process.wait()
    for stream in (each.process.stdout, each.process.stderr):
        if stream is None:
            continue
        with contextlib.suppress(KeyError):
            selector.unregister(stream)
            while not each.problem and _has_more(stream, each):
                pass
        stream.close()
    selector.unregister(each.ended)
    os.close(each.ended)


def _has_more(stream: IO[bytes], each: _Running) -> bool:
    try:
        piece = os.read(stream.fileno(), _PIECE)
    except BlockingIOError:
        return False
    each.take(piece, is_error=stream is each.process.stderr)
    return bool(piece)
