"""``scopekeeper uninstall``."""

import os

import click

from scopekeeper.cli.documents import texts
from scopekeeper.cli.install import CHOOSING, tell
from scopekeeper.install.gateway_drop_in import gateway_unit
from scopekeeper.install.install import manager_of, places_of
from scopekeeper.install.systemctl import Systemctl
from scopekeeper.install.uninstall import uninstall


@click.command("uninstall", params=[*CHOOSING])
@click.option("--gateway", metavar="UNIT", help="Only the drop-in of this service.")
@click.option("--force", is_flag=True, help="Also while the keeper holds terminals: it stays until "
              "they have ended, but nothing keeps them should it be killed.")  # fmt: skip
def command(
    user: bool, system: bool, gateway: str | None, force: bool, dry_run: bool, as_json: bool
) -> None:
    """Undo install: remove what it wrote, and nothing that was edited since.

    Scopes, their history and gateways that run stay as they are; a keeper without terminals is
    stopped. It is refused while there are commands of `scopekeeper exec` or instances of
    scopekeeper@.service. Exit status: 0 done; 1 something was refused or failed.
    """
    places = places_of(manager_of(user=user, system=system, verb="uninstall"), os.environ)
    unit = "" if gateway is None else gateway_unit(gateway)
    change = uninstall(Systemctl(places), places, texts(), unit, force=force, dry_run=dry_run)
    tell(change, dry_run=dry_run, as_json=as_json)
