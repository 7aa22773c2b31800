"""``scopekeeper keeper``."""

import sys

import click

from scopekeeper.cli.examples import examples
from scopekeeper.cli.whole_number import WholeNumber
from scopekeeper.errors import UsageError
from scopekeeper.kernel.proc import exists
from scopekeeper.metrics.facts import MOST_SESSIONS, SESSIONS
from scopekeeper.quantities import duration

_LINGER = "30s"


@click.command("keeper", epilog=examples("scopekeeper keeper --linger 1s"))
@click.option("--linger", metavar="DURATION", help="How long the keeper stays with nothing to do; "
              "infinity to stay forever. Default 30s.")  # fmt: skip
@click.option("--no-bus", is_flag=True, help="Do not take a name on D-Bus.")
@click.option("--standalone", is_flag=True, help="Run outside the caller's scope, and not on "
              "D-Bus. The default without systemd.")  # fmt: skip
@click.option("--metrics", metavar="ADDRESS", envvar="SCOPEKEEPER_METRICS", help="Serve `metrics` "
              "there: unix, the path of a socket, PORT (of 127.0.0.1) or ADDRESS:PORT. The keeper "
              "then stays, unless --linger says otherwise. Also $SCOPEKEEPER_METRICS."
              )  # fmt: skip
@click.option("--metrics-sessions", type=WholeNumber(0, MOST_SESSIONS), metavar="N",
              default=SESSIONS, envvar="SCOPEKEEPER_METRICS_SESSIONS", help="As --sessions of "
              "`metrics`. Also $SCOPEKEEPER_METRICS_SESSIONS.")  # fmt: skip
def command(
    linger: str | None, no_bus: bool, standalone: bool, metrics: str | None, metrics_sessions: int
) -> None:
    """Watch scopes, and do at once what `reconcile` would do later.

    One keeper runs for each user. It ends scopes that lost their owner, by the rules of the policy;
    removes owned paths; writes the history; and holds the terminals of `exec`. It exits when it has
    had nothing to do for a while. SIGHUP reloads the policy. On SIGTERM it exits, and scopes keep
    running.
    """
    linger = linger or (_LINGER if metrics is None else "infinity")
    try:
        seconds = None if linger == "infinity" else duration("linger", linger) / 1e6
    except ValueError as error:
        raise UsageError(str(error)) from None
    if metrics is None:
        # asyncio imports ssl if it can: 3 MiB that nothing here uses, but prometheus_client
        sys.modules.setdefault("ssl", None)  # type: ignore[arg-type]
    from scopekeeper.keeper.main import run
    from scopekeeper.keeper.metrics_address import parse

    address = None if metrics is None else parse(metrics)

    if not standalone and exists("/run/systemd/system"):  # sd_booted(3)
        run(linger=seconds, on_the_bus=not no_bus, metrics=address, sessions=metrics_sessions)
        return
    from scopekeeper.keeper.no_systemd import StandsAlone, leave_member

    leave_member()
    with StandsAlone() as alone:
        run(
            linger=seconds,
            on_the_bus=False,
            listens=alone.listens,
            metrics=address,
            sessions=metrics_sessions,
        )
