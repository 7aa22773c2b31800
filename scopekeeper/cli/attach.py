"""``scopekeeper attach``."""

import click

from scopekeeper.cli.examples import examples
from scopekeeper.cli.output import NOBODY_READS
from scopekeeper.errors import FAILED, UnavailableError, UsageError


@click.command("attach", epilog=examples("scopekeeper attach 4f1d09c7"))
@click.option("--read-only", is_flag=True, help="Only show its output: send no input, and do not "
              "resize its window.")  # fmt: skip
@click.option("--detach-keys", metavar="KEYS", envvar="SCOPEKEEPER_DETACH_KEYS", default=None,
              help="Keys that detach: ctrl-\\ , or ctrl-p,ctrl-q as in docker; none disables them. "
              "Default: $SCOPEKEEPER_DETACH_KEYS, else ctrl-\\ .")  # fmt: skip
@click.option("--no-redraw", is_flag=True, help="Do not draw its screen; show new output only.")
@click.argument("run", metavar="RUN")
def command(run: str, read_only: bool, detach_keys: str | None, no_redraw: bool) -> None:
    """Attach to a run's terminal.

    RUN is its id, or the beginning of it. Its screen is drawn first, and a full-screen program
    redraws itself. Several can attach; the run's window is as large as the smallest of theirs.
    Input that is not a terminal is passed on up to its end.

    Exit status: 0 if detached, else that of the run as a shell reports it; 4 there is no such run;
    125 the run's status is not known, or no keeper answers.
    """
    from scopekeeper.exec import attach
    from scopekeeper.exec.silence import SilentError
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
    except (SilentError, UnavailableError) as error:
        error.status = FAILED
        raise
    raise SystemExit(status or 0)


def detaching(text: str | None) -> bytes:
    """Return the bytes of the detach keys, none for ``none``; raises UsageError."""
    from scopekeeper.exec import keys

    if text == "none":
        return b""
    try:
        return keys.parse(text or keys.DETACH)
    except ValueError as error:
        raise UsageError(f"--detach-keys: {error}") from None
