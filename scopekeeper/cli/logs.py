"""``scopekeeper logs``."""

import contextlib
import pathlib
import select
import sys
import time
from collections.abc import Callable

import click

from scopekeeper.cli.examples import examples
from scopekeeper.cli.output import write_bytes
from scopekeeper.cli.whole_number import WholeNumber
from scopekeeper.errors import UsageError
from scopekeeper.exec import log, messages, run, unheld_runs
from scopekeeper.exec.text import Plain
from scopekeeper.quantities import since
from scopekeeper.safe_text import safe_lines

_PIECE = 64 << 10
_INTERVAL = 0.1
_ANSWER_SECONDS = 1.0
_LOOKED_AFTER = 10
"""Reads of a silent run between checks that its keeper runs."""


@click.command(
    "logs",
    epilog=examples("scopekeeper logs 4f1d09c7", "scopekeeper logs -f -n 20 --text 4f1d09c7"),
)
@click.argument("run_id", metavar="RUN")
@click.option("-f", "--follow", is_flag=True, help="Continue with new output, until it ends.")
@click.option("--since", "since_text", metavar="TIME", help="Only output since then (2h, "
              "ISO 8601, or @SECONDS).")  # fmt: skip
@click.option("-n", "--lines", metavar="N", type=WholeNumber(0, 2**31 - 1),
              help="Only so many of the last lines.")  # fmt: skip
@click.option("--raw/--text", "raw", default=True,
              help="Byte for byte (the default), or as lines of text.")  # fmt: skip
def command(
    run_id: str, follow: bool, since_text: str | None, lines: int | None, raw: bool
) -> None:
    """Show a run's output.

    RUN is its id, or the beginning of it. It needs no keeper, and works after the run has ended.

    Exit status: 0 done; 1 its output cannot be read; 2 wrong usage; 4 there is no such run.
    """
    try:
        begin = None if since_text is None else since("since", since_text, time.time())
    except ValueError as error:
        raise UsageError(str(error)) from None
    found = unheld_runs.find(run_id)
    position = _begin(found.folder, begin, lines)
    plain = None if raw else Plain()
    ended = _show(found.id, found.folder, position, follow=follow, filtered=_filtered(plain))
    if plain is not None:
        _write(safe_lines(plain.finish(final=ended)).encode())


def _begin(folder: pathlib.Path, since: float | None, lines: int | None) -> int:
    """Return the position to begin at, which may no longer be in the log."""
    position = 0
    if since is not None:
        position = log.since(folder, max(int(since * 1e6), 0))
    if lines is not None:
        position = max(position, log.last_lines(folder, lines))
    return position


def _filtered(plain: Plain | None) -> Callable[[bytes], bytes]:
    return bytes if plain is None else lambda data: safe_lines(plain.feed(data)).encode()


def _show(
    run_id: str,
    folder: pathlib.Path,
    position: int,
    *,
    follow: bool,
    filtered: Callable[[bytes], bytes],
) -> bool:
    """Print output from a position on, and later output if follow is set.

    Returns whether the run has ended.
    """
    quiet, lost = 0, False
    while True:
        # check first: output before the end is printed below
        now = run.load(run_id)
        ended = now is None or now.ended is not None
        while True:
            found, data = log.read(folder, position, _PIECE)
            if found > position:
                _say_missing(folder, found, found - position)
            position = found + len(data)
            quiet = 0 if data else quiet + 1
            if not data:
                break
            _write(filtered(data))
        if ended or not follow:
            return ended
        if quiet % _LOOKED_AFTER == 0 and _look_after(run_id) and not lost:
            lost = True
            click.echo(f"scopekeeper: {messages.lost_words(run_id)}", err=True)
        _wait(_INTERVAL)


def _look_after(run_id: str) -> bool:
    """Make sure that a keeper records the end, if it was killed and nothing restarts it.

    Returns whether the run's terminal is lost.
    """
    from scopekeeper.errors import ScopekeeperError
    from scopekeeper.exec.client import understood
    from scopekeeper.exec.reach import reach_again

    with contextlib.suppress(ScopekeeperError), reach_again() as connection, understood():
        connection.socket.settimeout(_ANSWER_SECONDS)
        return messages.is_lost(connection.ask(do="wait", run=run_id))
    return False


def _write(data: bytes) -> None:
    if data:
        write_bytes(data)


def _say_missing(folder: pathlib.Path, position: int, count: int) -> None:
    words = "1 byte is" if count == 1 else f"{count:,} bytes are"
    why = "no longer kept" if log.first(folder) >= position else "missing: the disk took no more"
    click.echo(f"scopekeeper: {words} {why}", err=True)


def _wait(seconds: float) -> None:
    """Wait; raises BrokenPipeError as soon as the reader is gone.

    Ten reads a second of one folder and a small file are cheap: inotify would save little, and
    has limits of its own.
    """
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    if poll.poll(seconds * 1000):
        raise BrokenPipeError
