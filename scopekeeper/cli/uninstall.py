"""``scopekeeper uninstall``."""

import os

import click

from scopekeeper.cli.documents import texts
from scopekeeper.cli.examples import examples
from scopekeeper.cli.install import MANAGER_OPTIONS, report
from scopekeeper.install.gateway_drop_in import gateway_unit
from scopekeeper.install.install import manager_of, places_of
from scopekeeper.install.uninstall import uninstall
from scopekeeper.systemd.systemctl import Systemctl


@click.command(
    "uninstall",
    params=[*MANAGER_OPTIONS],
    epilog=examples("scopekeeper uninstall --dry-run", "scopekeeper uninstall"),
)
@click.option("--gateway", metavar="UNIT", help="Remove only the drop-in of this service.")
@click.option("--force", is_flag=True, help="Uninstall even while the keeper holds terminals. It "
              "runs until they end, but they are lost if it is killed.")  # fmt: skip
def command(
    user: bool, system: bool, gateway: str | None, force: bool, dry_run: bool, as_json: bool
) -> None:
    """Undo `install`: remove the files that it wrote, except those edited since.

    Scopes, their history and running gateways are not touched; a keeper that holds no terminals is
    stopped. Refused while commands of `scopekeeper exec` or instances of scopekeeper@.service run.
    Exit status: 0 done; 1 something was refused or failed.
    """
    places = places_of(manager_of(user=user, system=system, verb="uninstall"), os.environ)
    unit = "" if gateway is None else gateway_unit(gateway)
    manager = Systemctl(places.manager, places.units)
    change = uninstall(manager, places, texts(), unit, force=force, dry_run=dry_run)
    report(change, dry_run=dry_run, as_json=as_json)
