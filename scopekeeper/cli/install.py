"""``scopekeeper install``."""

import os
from collections.abc import Mapping

import click

from scopekeeper.cli.documents import texts
from scopekeeper.cli.examples import examples
from scopekeeper.cli.show import answer, safe, safe_json, warn
from scopekeeper.install.apply import Applied
from scopekeeper.install.gateway_drop_in import gateway_unit
from scopekeeper.install.install import install, manager_of, places_of
from scopekeeper.mcp_configs.program import installed
from scopekeeper.systemd.systemctl import Systemctl

MANAGER_OPTIONS: list[click.Parameter] = [
    click.Option(["--user", "user"], is_flag=True, help="Install for this user's service manager. "
                 "The default for users other than root."),
    click.Option(["--system", "system"], is_flag=True, help="Install for the system manager, which "
                 "runs root's scopes. The default for root."),
    click.Option(["--dry-run"], is_flag=True, help="Only print what would be written, removed and "
                 "run."),
    click.Option(["--json", "as_json"], is_flag=True, help="Print one versioned JSON object."),
]  # fmt: skip


@click.command(
    "install",
    params=[*MANAGER_OPTIONS],
    epilog=examples(
        "scopekeeper install --dry-run",
        "scopekeeper install",
        "scopekeeper install --shell",
        "scopekeeper install --gateway my-gateway.service --shell",
    ),
)
@click.option("--gateway", metavar="UNIT", help="Also contain this service: clean up its leftovers "
              "before it starts and after it stops.")  # fmt: skip
@click.option("--shell", is_flag=True, help="Make a folder with a bash that leads to "
              "scopekeeper-shell, for agents that look for bash by its name. With --gateway, set "
              "SHELL to scopekeeper-shell for that service instead.")  # fmt: skip
def command(
    user: bool, system: bool, gateway: str | None, shell: bool, dry_run: bool, as_json: bool
) -> None:
    """Install the units: systemd starts the keeper on demand and reconciles at boot.

    Writes the units, the D-Bus files, man pages and completions that no package has installed,
    enables the timer and the boot service, and starts them. Running scopes and gateways are not
    touched. Run it again after an update; files that you edited are kept, with a warning. Exit
    status: 0 done; 1 something was refused or failed, and nothing was changed.
    """
    places = places_of(manager_of(user=user, system=system, verb="install"), os.environ)
    unit = "" if gateway is None else gateway_unit(gateway)
    _, program = installed()
    manager = Systemctl(places.manager, places.units)
    change = install(manager, places, program, texts(), unit, shell=shell, dry_run=dry_run)
    pointers = [{"client": client, "do": safe_json(what)} for client, what in change.pointers]
    report(change, dry_run=dry_run, as_json=as_json, more={"shell": pointers})


def report(
    change: Applied, *, dry_run: bool, as_json: bool, more: Mapping[str, object] | None = None
) -> None:
    """Print what was done, or would be done; more has more keys of the JSON object."""
    if as_json:
        answer({
            "dry_run": dry_run,
            "written": [safe_json(path) for path in change.written],
            "removed": [safe_json(path) for path in change.removed],
            "provided": [safe_json(path) for path in change.provided],
            "ran": [safe_json(line) for line in change.ran],
            "then": safe_json(change.then) or None,
            "warnings": [safe_json(text) for text in change.warnings],
            **(more or {}),
        })  # fmt: skip
        return
    print_change(change, dry_run=dry_run)
    warn(change.warnings)
    if change.is_nothing:
        click.echo("Nothing to change.")
    if change.then:
        click.echo(safe(change.then))
    if change.pointers:
        click.echo("To have an agent run its commands through that bash:")
        for client, what in change.pointers:
            click.echo(safe(f"  {client}: {what}"))
        click.echo("Whatever else calls a bare bash through that PATH is contained too.")


def print_change(change: Applied, *, dry_run: bool) -> None:
    """Print the files written and removed, and the commands run; or that would be."""
    would = "would be " if dry_run else ""
    for paths, done in ((change.written, "written"), (change.removed, "removed")):
        documents = [path for path in paths if path in change.documents]
        if len(documents) == 1:
            documents = []
        for path in paths:
            if path not in documents:
                click.echo(safe(f"{path}: {would}{done}"))
        if documents:
            folder = os.path.commonpath([os.path.dirname(path) for path in documents])
            what = f"{len(documents)} manual pages and completions"
            click.echo(safe(f"{folder}: {what} {would}{done}"))
    for line in change.ran:
        click.echo(safe(f"{line}: {would}run" if dry_run else f"ran {line}"))
