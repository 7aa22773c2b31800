"""``scopekeeper place``."""

import click

from scopekeeper.cli import run as plain
from scopekeeper.cli.examples import examples
from scopekeeper.cli.show import answer, safe_json, warn
from scopekeeper.launch.place import WITHIN, place

_NOT_TAKEN = (
    "command", "name", "own", "own_scope", "scratch", "no_container", "if_unavailable", "stderr",
)  # fmt: skip
"""Parameters of ``run`` that are about its command, or that are defined here."""


@click.command(
    "place",
    epilog=examples(
        "scopekeeper place -s agent:main:main -n git --within 10s",
        "scopekeeper place -s agent:main:main -n git --json",
    ),
)
@click.option("-n", "--name", metavar="NAME", required=True, help="The member's name.")
@click.option("--within", metavar="DURATION", default=WITHIN, show_default=True,
              help="Remove the place if no process was started in it within this time, up to "
              "1h.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one versioned JSON object.")
def command(as_json: bool, **given: str | bool | tuple[str, ...] | None) -> None:
    """Make a place for a member, and print its directory.

    For a gateway that starts the child itself, in that cgroup: Go's SysProcAttr.CgroupFD, Bun's
    spawn({cgroup}), clone3 with CLONE_INTO_CGROUP. The child is born there and never moves. The
    directory is a cgroup, and its owner is the process that called. Give the child the variables
    that --json lists, so that it is found if it leaves its scope. Exit status: 0 the place is made;
    1 it cannot be made; 2 wrong usage.
    """
    placed = place(plain.as_given(given))
    if not as_json:
        warn(placed.warnings)
        click.echo(placed.directory)
        return
    answer(
        {
            "directory": placed.directory,
            "unit": placed.unit,
            "leaf": placed.leaf,
            "id": placed.leaf.rpartition(".")[2],
            "name": safe_json(placed.name),
            "session": safe_json(placed.session),
            "lane": safe_json(placed.lane),
            "run": safe_json(placed.run) or None,
            "owner": safe_json(placed.owner),
            "within_s": placed.within,
            "environment": {safe_json(k): safe_json(v) for k, v in placed.environment.items()},
            "unset": [safe_json(name) for name in placed.unset],
            "warnings": [safe_json(text) for text in placed.warnings],
        }
    )


command.params[:0] = [each for each in plain.command.params if each.name not in _NOT_TAKEN]
