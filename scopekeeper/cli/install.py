"""``scopekeeper install``."""

import os

import click

from scopekeeper.cli.documents import texts
from scopekeeper.cli.show import answer, safe, safe_json, warn
from scopekeeper.errors import UsageError
from scopekeeper.install.apply import Applied
from scopekeeper.install.gateway_drop_in import gateway_unit
from scopekeeper.install.install import install, manager_of, places_of
from scopekeeper.install.systemctl import Systemctl
from scopekeeper.mcp_clients.program import installed

CHOOSING: list[click.Parameter] = [
    click.Option(["--user", "user"], is_flag=True, help="For the manager of this user; what is "
                 "meant where another user than root calls it."),
    click.Option(["--system", "system"], is_flag=True, help="For the system's manager, which runs "
                 "root's scopes; what is meant where root calls it."),
    click.Option(["--dry-run"], is_flag=True, help="Only say what would be written, removed, run."),
    click.Option(["--json", "as_json"], is_flag=True, help="One versioned JSON object."),
]  # fmt: skip


@click.command("install", params=[*CHOOSING])
@click.option("--gateway", metavar="UNIT", help="Contain this service too: what one life of it has "
              "left is ended before the next begins, and when it stops.")  # fmt: skip
@click.option("--shell", is_flag=True, help="And give it scopekeeper-shell as SHELL.")
def command(
    user: bool, system: bool, gateway: str | None, shell: bool, dry_run: bool, as_json: bool
) -> None:
    """Have a systemd manager start the keeper when it is needed, and reconcile at boot.

    Writes the units, the files for the bus, manual pages and completions where no package has them
    already, enables what is to run by itself, and starts it. Running scopes and gateways are left
    as they are. Can be called again, after an update too; what was edited since is kept, and said.
    Exit status: 0 done; 1 something was refused or failed, and nothing is changed then.
    """
    if shell and gateway is None:
        raise UsageError("--shell is for a gateway", "give --gateway UNIT")
    places = places_of(manager_of(user=user, system=system, verb="install"), os.environ)
    unit = "" if gateway is None else gateway_unit(gateway)
    _, program = installed()
    change = install(
        Systemctl(places), places, program, texts(), unit, shell=shell, dry_run=dry_run
    )
    tell(change, dry_run=dry_run, as_json=as_json)


def tell(change: Applied, *, dry_run: bool, as_json: bool) -> None:
    """Say what was done, or would be."""
    if as_json:
        answer({
            "dry_run": dry_run,
            "written": [safe_json(path) for path in change.written],
            "removed": [safe_json(path) for path in change.removed],
            "provided": [safe_json(path) for path in change.provided],
            "ran": [safe_json(line) for line in change.ran],
            "then": safe_json(change.then) or None,
            "warnings": [safe_json(text) for text in change.warnings],
        })  # fmt: skip
        return
    show(change, dry_run=dry_run)
    warn(change.warnings)
    if change.is_nothing:
        click.echo("Nothing to change.")
    if change.then:
        click.echo(safe(change.then))


def show(change: Applied, *, dry_run: bool) -> None:
    """Print which files were written and removed, and what was run; or would be."""
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
