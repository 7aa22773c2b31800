"""``scopekeeper uninstall``."""

import os
import shlex

import click

from scopekeeper import state
from scopekeeper.cli import hooks_left
from scopekeeper.cli.documents import texts
from scopekeeper.cli.examples import examples
from scopekeeper.cli.install import MANAGER_OPTIONS, report
from scopekeeper.cli.show import safe, safe_json, warn
from scopekeeper.cli.still_wrapped import (
    documents,
    sentences,
    wrapped_files,
    wrapped_project_files,
)
from scopekeeper.errors import StateError
from scopekeeper.install.gateway_drop_in import gateway_unit
from scopekeeper.install.install import manager_of, places_of
from scopekeeper.install.uninstall import uninstall
from scopekeeper.mcp_configs import known_clients
from scopekeeper.mcp_configs.backups import FOLDER
from scopekeeper.mcp_configs.launcher_settings import settings
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

    Scopes, their history and running gateways are not touched. A keeper that holds no terminals is
    stopped, and the slice if nothing runs in it. Refused while commands of `scopekeeper exec` or
    instances of scopekeeper@.service run. It ends with what stays: servers that are still wrapped,
    hooks that are registered, and the folder of the history. Exit status: 0 done; 1 something was
    refused or failed.
    """
    places = places_of(manager_of(user=user, system=system, verb="uninstall"), os.environ)
    unit = "" if gateway is None else gateway_unit(gateway)
    manager = Systemctl(places.manager, places.units)
    change = uninstall(manager, places, texts(), unit, force=force, dry_run=dry_run)
    wrapped = [] if gateway else [*wrapped_files(), *wrapped_project_files()]
    hooks = [] if gateway else hooks_left.files_with_hooks()
    folder = "" if gateway else _state_folder()
    more = {"still_wrapped": documents(wrapped), "hooks": hooks_left.documents(hooks),
            "state": safe_json(folder) or None}  # fmt: skip
    report(change, dry_run=dry_run, as_json=as_json, more=more)
    if folder and not as_json and not change.is_nothing:
        held = "the history and the output of runs"
        if os.path.exists(f"{folder}/{FOLDER}"):
            held = "the history, the output of runs and backups of `wrap`"
        click.echo(safe(f"{folder} stays, with {held}; to remove it: rm -r {shlex.quote(folder)}"))
    warn([f"{text} before you remove scopekeeper"
          for text in (*sentences(wrapped), *hooks_left.sentences(hooks))])  # fmt: skip
    if not gateway:
        warn([
            f"{each}: a file of a client in it may still be wrapped; correct it, and run "
            "`scopekeeper unwrap` before you remove scopekeeper"
            for each in known_clients.problems()
        ])  # fmt: skip
        warn([
            f"{each.path} names {each.program} as {each.variable}; remove that line before you "
            f"remove scopekeeper: {each.client.title} starts no command without it"
            for each in settings(os.environ)
        ])  # fmt: skip


def _state_folder() -> str:
    """Return the folder of the history; '' if there is none, or nothing is in it."""
    try:
        folder = state.directory()
        return str(folder) if any(folder.iterdir()) else ""
    except (StateError, OSError):
        return ""
