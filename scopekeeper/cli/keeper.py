"""``scopekeeper keeper``."""

import os
import sys
from typing import TYPE_CHECKING

import click

from scopekeeper.cli.examples import examples
from scopekeeper.cli.show import warn
from scopekeeper.cli.whole_number import WholeNumber
from scopekeeper.errors import ScopekeeperError, UsageError
from scopekeeper.kernel.proc import exists
from scopekeeper.metrics.facts import MOST_SESSIONS, SESSIONS
from scopekeeper.quantities import duration

if TYPE_CHECKING:
    from scopekeeper.keeper.metrics_address import Address

_LINGER = "30s"
_METRICS, _SESSIONS = "SCOPEKEEPER_METRICS", "SCOPEKEEPER_METRICS_SESSIONS"


@click.command("keeper", epilog=examples("scopekeeper keeper --linger 1s"))
@click.option("--linger", metavar="DURATION", help="How long the keeper stays with nothing to do; "
              "infinity to stay forever. Default 30s.")  # fmt: skip
@click.option("--no-bus", is_flag=True, help="Do not take a name on D-Bus.")
@click.option("--standalone", is_flag=True, help="Run outside the caller's scope, and not on "
              "D-Bus. The default without systemd.")  # fmt: skip
@click.option("--metrics", metavar="ADDRESS", help="Serve `metrics` "
              "there: unix, the path of a socket, PORT (of 127.0.0.1) or ADDRESS:PORT. The keeper "
              "then stays, unless --linger says otherwise. Also $SCOPEKEEPER_METRICS."
              )  # fmt: skip
@click.option("--metrics-sessions", type=WholeNumber(0, MOST_SESSIONS), metavar="N",
              help=f"As --sessions of `metrics`. Default {SESSIONS}. Also "
              "$SCOPEKEEPER_METRICS_SESSIONS.")  # fmt: skip
def command(
    linger: str | None,
    no_bus: bool,
    standalone: bool,
    metrics: str | None,
    metrics_sessions: int | None,
) -> None:
    """Watch scopes, and do at once what `reconcile` would do later.

    One keeper runs for each user. It ends scopes that lost their owner, by the rules of the policy;
    removes owned paths; writes the history; and holds the terminals of `exec`. It exits when it has
    had nothing to do for a while. SIGHUP reloads the policy. On SIGTERM it exits, and scopes keep
    running.
    """
    serves = metrics is not None or bool(os.environ.get(_METRICS))
    linger = linger or ("infinity" if serves else _LINGER)
    try:
        seconds = None if linger == "infinity" else duration("linger", linger) / 1e6
    except ValueError as error:
        raise UsageError(str(error)) from None
    if not serves:
        # asyncio imports ssl if it can: 3 MiB that nothing here uses, but prometheus_client
        sys.modules.setdefault("ssl", None)  # type: ignore[arg-type]
    from scopekeeper.keeper.main import run

    address = _address(metrics) if serves else None
    sessions = _sessions() if metrics_sessions is None else metrics_sessions

    if not standalone and exists("/run/systemd/system"):  # sd_booted(3)
        run(linger=seconds, on_the_bus=not no_bus, metrics=address, sessions=sessions)
        return
    from scopekeeper.keeper.no_systemd import StandsAlone, leave_member

    leave_member()
    with StandsAlone() as alone:
        run(
            linger=seconds,
            on_the_bus=False,
            listens=alone.listens,
            metrics=address,
            sessions=sessions,
        )


def _address(asked: str | None) -> "Address | None":
    """Return where to serve metrics; raises UsageError for a wrong option.

    What is wrong in the environment of a service, which nobody sees start, is one line in its
    journal: scopes are watched all the same.
    """
    from scopekeeper.keeper.metrics_address import parse

    if asked is not None:
        return parse(asked)
    try:
        return parse(os.environ[_METRICS])
    except ScopekeeperError as error:
        warn([f"no metrics are served: {_METRICS}: {error}"])
        return None


def _sessions() -> int:
    """Return what the environment has as --metrics-sessions, or its default."""
    text = os.environ.get(_SESSIONS, "")
    if text.isascii() and text.isdecimal() and len(text) < 8 and int(text) <= MOST_SESSIONS:
        return int(text)
    if text:
        warn([f"{_SESSIONS} is ignored: {text!r} is no whole number up to {MOST_SESSIONS}"])
    return SESSIONS
