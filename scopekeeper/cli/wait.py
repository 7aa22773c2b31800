"""``scopekeeper wait``."""

import json
import sys
import time
from typing import TYPE_CHECKING

import click

from scopekeeper.cli.show import safe_json
from scopekeeper.errors import ScopekeeperError, UsageError
from scopekeeper.quantities import duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scopekeeper.pty.run import Ended, Run

_TIMED_OUT = 124
"""As timeout(1) has it."""


@click.command("wait")
@click.option("--timeout", metavar="DURATION", help="Wait no longer; then exit 124.")
@click.option("--json", "as_json", is_flag=True, help="Print how each has ended.")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
def command(runs: tuple[str, ...], timeout: str | None, as_json: bool) -> None:
    """Wait until runs have ended; exit with the status of the last one, as a shell has it.

    125 where it is not known. What has ended long ago is answered as long as its output is kept.
    """
    from scopekeeper.pty.run import find
    from scopekeeper.pty.waiting import wait_for

    try:
        deadline = time.monotonic() + duration("timeout", timeout) / 1e6 if timeout else None
    except ValueError as error:
        raise UsageError(str(error)) from None
    found = [find(wanted) for wanted in runs]
    ends: list[Ended | None] = []
    for run in found:
        try:
            ends.append(run.ended or wait_for(run.id, deadline))
        except TimeoutError:
            if as_json:
                _print(found, ends)
            raise _TimedOutError(f"{run.id} has not ended yet") from None
    if as_json:
        _print(found, ends)
    last = ends[-1]
    status = last.status if last is not None else None
    sys.exit(125 if status is None else status)


class _TimedOutError(ScopekeeperError):
    status = _TIMED_OUT


def _print(found: "Sequence[Run]", ends: "Sequence[Ended | None]") -> None:
    from scopekeeper.pty.run import plain_end

    told = []
    for run, end in zip(found, ends, strict=False):
        values = plain_end(end) or {}
        told.append({"run": run.id, **values, "status": end.status if end else None})
    click.echo(safe_json(json.dumps(told, indent=2)))
