"""``scopekeeper wait``."""

import sys
import time
from typing import TYPE_CHECKING

import click

from scopekeeper.cli.examples import examples
from scopekeeper.cli.show import answer
from scopekeeper.errors import FAILED, ScopekeeperError, UnavailableError, UsageError
from scopekeeper.quantities import duration
from scopekeeper.scope.reason import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scopekeeper.exec.run import Ended

_TIMED_OUT = 124
"""As with timeout(1)."""


@click.command("wait", epilog=examples("scopekeeper wait 4f1d09c7 --timeout 30s"))
@click.option("--timeout", metavar="DURATION", help="Wait no longer than this, then exit 124; "
              "the runs continue.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One versioned JSON object: how each "
              "ended.")  # fmt: skip
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
def command(runs: tuple[str, ...], timeout: str | None, as_json: bool) -> None:
    """Wait until runs have ended, and exit with the status of the last one.

    The end of a run is known as long as its output is kept. A run that `exec` did not start can be
    waited for, too; a keeper has to see it end.

    Exit status: that of the last run; 4 there is no such run; 124 --timeout is over; 125 how the
    last run ended is not known, or no keeper answers.
    """
    from scopekeeper.exec.silence import SilentError
    from scopekeeper.exec.wait import waiter

    try:
        deadline = time.monotonic() + duration("timeout", timeout) / 1e6 if timeout else None
    except ValueError as error:
        raise UsageError(str(error)) from None
    waits = [waiter(wanted) for wanted in runs]
    ends: list[tuple[str, Ended | None]] = []
    for run_id, wait in waits:
        try:
            ends.append((run_id, wait(deadline)))
        except TimeoutError:
            if as_json:
                _print(ends)
            hint = f"it continues; `scopekeeper why {run_id}` shows its state"
            raise _TimedOutError(f"the run {run_id} has not ended yet", hint) from None
        except (SilentError, UnavailableError) as error:
            if as_json:
                _print(ends)
            error.status = FAILED
            raise
    if as_json:
        _print(ends)
    last = ends[-1][1]
    status = last.status if last is not None else None
    if status is None and not as_json:
        how = "nobody saw how" if last is None else last.evidence
        if last is not None and last.reason != Reason.UNKNOWN.value:
            how = f"{last.reason}: {how}"
        click.echo(f"scopekeeper: {ends[-1][0]} ended without a known status: {how}", err=True)
    sys.exit(125 if status is None else status)


class _TimedOutError(ScopekeeperError):
    status = _TIMED_OUT


def _print(ends: "Sequence[tuple[str, Ended | None]]") -> None:
    from scopekeeper.exec.run import plain_end

    answer({
        "runs": [
            {"run": run_id, **(plain_end(end) or {}), "status": end.status if end else None}
            for run_id, end in ends
        ]
    })  # fmt: skip
