"""``scopekeeper disown``."""

import click

from scopekeeper.cli.examples import examples
from scopekeeper.cli.show import safe
from scopekeeper.errors import NOTHING_MATCHED
from scopekeeper.owned.claim_at_launch import path_of
from scopekeeper.owned.claim_running import take_back
from scopekeeper.owned.store import ClaimStore


@click.command("disown", epilog=examples("scopekeeper disown /tmp/agent-main"))
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
def command(paths: tuple[str, ...]) -> None:
    """Take back paths that were handed over with `own`.

    Nothing is removed. Exit status: 0 done; 1 the removal of a path has already begun; 4 a path was
    not owned.
    """
    store = ClaimStore.find()
    missing = False
    for path in [path_of(path) for path in paths]:
        if store is not None and take_back(store, path):
            click.echo(safe(f"{path}: no longer owned"))
        else:
            click.echo(safe(f"{path}: not owned"), err=True)
            missing = True
    raise SystemExit(NOTHING_MATCHED if missing else 0)
