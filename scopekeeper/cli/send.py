"""``scopekeeper send``."""

import os
from collections.abc import Iterator

import click

from scopekeeper.cli.examples import examples
from scopekeeper.errors import InterruptedWorkError, UsageError
from scopekeeper.quantities import duration

_PIECE = 1 << 16


@click.command(
    "send",
    epilog=examples(
        "scopekeeper send 4f1d09c7 'make test' --enter", "scopekeeper send 4f1d09c7 --keys ctrl-c"
    ),
)
@click.option("--keys", metavar="KEYS", help="Keys instead of text: ctrl-c, up, f1, alt-x, "
              "C-c; with commas between them.")  # fmt: skip
@click.option("--stdin", is_flag=True, help="Send standard input, up to its end, instead of text.")
@click.option("--enter", is_flag=True, help="Then press Enter.")
@click.option("--eof", is_flag=True, help="Then end its input: ctrl-d at a terminal.")
@click.option("--timeout", metavar="DURATION", default="5s", show_default=True,
              help="Time for the run to take it.")  # fmt: skip
@click.argument("run", metavar="RUN")
@click.argument("text", metavar="[TEXT]", required=False)
def command(
    run: str,
    text: str | None,
    keys: str | None,
    stdin: bool,
    enter: bool,
    eof: bool,
    timeout: str,
) -> None:
    """Type into a run's terminal.

    RUN is its id, or the beginning of it. TEXT is sent as it is, without a line end.

    Exit status: 0 the run's terminal took all of it; 1 it did not in time, or no keeper answers; 2
    wrong usage; 4 there is no such run.
    """
    ways = (text is not None) + (keys is not None) + stdin
    if ways > 1:
        raise UsageError("TEXT, --keys and --stdin exclude each other", "give one of them")
    if not ways and not enter and not eof:
        raise UsageError("there is nothing to send", "give TEXT, --keys, --stdin, --enter or --eof")
    try:
        seconds = duration("timeout", timeout) / 1e6
        typed = _typed(text, keys)
    except ValueError as error:
        raise UsageError(str(error)) from None
    from scopekeeper.exec.send import send
    from scopekeeper.exec.unheld_runs import find

    pieces = _pieces(typed, stdin=stdin, enter=enter)
    found = find(run)
    try:
        send(found, pieces, seconds=seconds, end=eof)
    except KeyboardInterrupt:
        raise InterruptedWorkError(f"{found.id} may have got a part of it") from None


def _typed(text: str | None, keys: str | None) -> bytes:
    from scopekeeper.exec.keys import parse

    if keys is None:
        return os.fsencode(text or "")
    try:
        return parse(keys)
    except ValueError as error:
        raise ValueError(f"--keys: {error}") from None


def _pieces(typed: bytes, *, stdin: bool, enter: bool) -> Iterator[bytes]:
    for at in range(0, len(typed), _PIECE):
        yield typed[at : at + _PIECE]
    while stdin and (data := os.read(0, _PIECE)):
        yield data
    if enter:
        yield b"\r"
