"""``scopekeeper attach``."""

import click

from scopekeeper.cli.output import NOBODY_READS
from scopekeeper.errors import UsageError


@click.command("attach")
@click.option("--read-only", is_flag=True, help="Only look: nothing is typed, and the size of the "
              "window is not ours to decide.")  # fmt: skip
@click.option("--detach-keys", metavar="KEYS", envvar="SCOPEKEEPER_DETACH_KEYS", default=None,
              help="Typed to leave it running: ctrl-\\ , or as docker has it: ctrl-p,ctrl-q; none "
              "for no such keys. Default: $SCOPEKEEPER_DETACH_KEYS, else ctrl-\\ .")  # fmt: skip
@click.option("--no-redraw", is_flag=True, help="Show only what it writes from now on.")
@click.argument("run", metavar="RUN")
def command(run: str, read_only: bool, detach_keys: str | None, no_redraw: bool) -> None:
    """Be at the terminal of a run.

    RUN is its id, or the beginning of it. What was on its screen is drawn again first. Several can
    be attached; the run's window is as large as the smallest of theirs. Where input is no
    terminal, it is passed on up to its end.

    Exit status: 0 where detached, else that of the run as a shell has it; 125 where nobody knows
    it.
    """
    from scopekeeper.exec import attach
    from scopekeeper.exec.unheld_runs import find

    try:
        status = attach.run(
            find(run),
            read_only=read_only,
            detach_keys=detaching(detach_keys),
            redraw=not no_redraw,
        )
    except BrokenPipeError:
        status = NOBODY_READS
    raise SystemExit(status or 0)


def detaching(text: str | None) -> bytes:
    """Return what is typed to detach; raises UsageError. Nothing for ``none``."""
    from scopekeeper.exec import keys

    if text == "none":
        return b""
    try:
        return keys.parse(text or keys.DETACH)
    except ValueError as error:
        raise UsageError(f"--detach-keys: {error}") from None
