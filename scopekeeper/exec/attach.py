"""Attaches to a run's terminal: shows its output and passes on what is typed."""

import contextlib
import signal

from scopekeeper.errors import ConflictError, UnavailableError
from scopekeeper.exec import messages
from scopekeeper.exec.attachment import Attachment, report
from scopekeeper.exec.client import RESTART, Connection
from scopekeeper.exec.keys import Detach
from scopekeeper.exec.messages import Attached
from scopekeeper.exec.modes import Modes
from scopekeeper.exec.reach import reach_again
from scopekeeper.exec.run import Ended, Run
from scopekeeper.exec.terminal import Terminal
from scopekeeper.scope.placement import Caller

UNKNOWN = 125
_CLEARED = b"\x1b[m\x1b[H\x1b[J"


def run(
    known: Run,
    *,
    read_only: bool = False,
    detach_keys: bytes = b"\x1c",
    redraw: bool = True,
    position: int = -1,
    brief: bool = False,
) -> int | None:
    """Attach to a run until it ends, or the detach keys are typed; raises ScopekeeperError.

    Returns the exit status as a shell has it, 125 where it is not known, None where detached.
    redraw draws the screen first, if output is a terminal. Without it, output is shown from
    position on, from now on if that is below zero. brief does not report an ordinary exit.
    """
    _be_outside(known)
    terminal = Terminal()
    picture = redraw and terminal.shown
    output, whole, seen = _tail(known) if picture else (b"", False, position)
    size = terminal.size()
    try:
        connection = reach_again(RESTART, start=True) if known.ended is None else Connection()
    except UnavailableError:
        if known.ended is None:
            raise
        # the keeper exits when it holds no run; the record of the run is still there
        return _tell_end(known, known.ended, brief=brief)
    with contextlib.closing(
        Attachment(connection, terminal, Detach(detach_keys), read_only=read_only)
    ) as attached:
        now = attached.begin(known.id, seen)
        drawn = _drawn(output, now, known, size, whole=whole) if picture else b""
        attached.show(drawn)
        terminal.last_words = f"[interrupted: {messages.goes_on(known.id)}]\n".encode()
        with terminal:
            if now.lost:
                attached.report_lost()
            if terminal.size() != size:
                attached.resize()
            elif size == (now.cols, now.rows) and _is_full_screen(drawn):
                attached.have_redrawn(*size)
            while not attached.stay():
                attached.begin_again(known.id)
            terminal.last_output = attached.last_output()
    if attached.over:
        return _tell_end(known, attached.ended, brief=brief)
    report(f"[detached from {known.id}]")
    return None


def _be_outside(known: Run) -> None:
    """Raise ConflictError inside the run: showing its output would be its output, without end."""
    if not known.directory or known.ended is not None:
        return
    with contextlib.suppress(LookupError):
        if f"{Caller().directory}/".startswith(f"{known.directory}/"):
            raise ConflictError(
                f"this is inside of {known.id}, which would show itself to itself",
                "attach from elsewhere; `scopekeeper logs` shows what it wrote",
            )


def _tell_end(known: Run, ended: Ended | None, *, brief: bool) -> int:
    """Report how a run ended, and return its status."""
    name = known.name if known.name.isprintable() and known.name else known.id
    if not brief or ended is None or ended.reason != "exited":
        report(f"[{name} ended: {_how(ended)}]")
    status = ended.status if ended is not None else None
    return UNKNOWN if status is None else status


def _tail(known: Run) -> tuple[bytes, bool, int]:
    """Return the end of the output, whether that is all of it, and the position behind it."""
    from scopekeeper.exec import log
    from scopekeeper.exec.screen import LIMIT

    position = max(log.end(known.folder) - LIMIT, 0)
    output, whole = bytearray(), position == 0
    while len(output) < 2 * LIMIT:  # the run may write faster than this reads
        found, data = log.read(known.folder, position, LIMIT)
        if found != position:
            output.clear()
            whole = False
        position = found + len(data)
        if not data:
            break
        output += data
    return bytes(output), whole, position


def _drawn(
    output: bytes, now: Attached, known: Run, size: tuple[int, int] | None, *, whole: bool
) -> bytes:
    from scopekeeper.exec import screen  # importing pyte takes longer than all the rest

    cols, rows = now.cols or known.cols, now.rows or known.rows
    window = size or (cols, rows)
    # earlier text scrolls up, into the terminal's scrollback
    return (
        b"\n" * window[1] + _CLEARED + screen.redraw(output, cols, rows, whole=whole, window=window)
    )


def _is_full_screen(drawn: bytes) -> bool:
    modes = Modes()
    modes.feed(drawn)
    return modes.alternate


def _how(ended: Ended | None) -> str:
    if ended is None:
        return "nobody knows how"
    words = [ended.reason]
    if ended.signal is not None:
        with contextlib.suppress(ValueError):
            words.append(signal.Signals(ended.signal).name)
    elif ended.exit_status is not None:
        words.append(f"status {ended.exit_status}")
    return ", ".join(words)
