"""``scopekeeper keeper``."""

import sys

import click

from scopekeeper.errors import UsageError
from scopekeeper.quantities import duration


@click.command("keeper")
@click.option("--linger", metavar="DURATION", default="30s", help="How long to stay when there is "
              "nothing to keep; infinity: for ever. Default 30s.")  # fmt: skip
@click.option("--no-bus", is_flag=True, help="Do not appear on the bus.")
@click.option("--standalone", is_flag=True, help="Run where no systemd takes care of it: out of "
              "the caller's scope, and not on the bus. `exec` starts one so.")  # fmt: skip
def command(linger: str, no_bus: bool, standalone: bool) -> None:
    """React at once to what ``reconcile`` would find later; one for each user.

    Ends what lost its owner, as the policy says; releases owned paths; writes the history. Leaves
    when there has been nothing to keep for a while. SIGHUP reads the policy again; SIGTERM leaves,
    and ends nothing.
    """
    try:
        seconds = None if linger == "infinity" else duration("linger", linger) / 1e6
    except ValueError as error:
        raise UsageError(str(error)) from None
    # asyncio loads TLS where that can be imported: 3 MiB, and nobody here to talk it with
    sys.modules.setdefault("ssl", None)  # type: ignore[arg-type]
    from scopekeeper.keeper.main import run

    if not standalone:
        run(linger=seconds, on_the_bus=not no_bus)
        return
    from scopekeeper.keeper.no_systemd import StandsAlone

    with StandsAlone() as alone:
        run(linger=seconds, on_the_bus=False, listens=alone.listens)
