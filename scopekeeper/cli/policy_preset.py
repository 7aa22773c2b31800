"""``scopekeeper policy preset``."""

import click

from scopekeeper import quantities
from scopekeeper.cli.examples import examples
from scopekeeper.errors import UnavailableError, UsageError
from scopekeeper.kernel import memory
from scopekeeper.policy import presets


@click.command(
    "preset",
    short_help="Print a policy file to begin with, with comments.",
    epilog=examples(
        "scopekeeper policy preset workstation",
        "scopekeeper policy preset small --memory 2G",
    ),
)
@click.argument("name", metavar="|".join(presets.NAMES))
@click.option("--memory", metavar="SIZE", help="Print sizes for a machine with so much memory. "
              "Default: this one.")  # fmt: skip
def preset_command(name: str, memory: str | None) -> None:
    """Print a policy file to begin with, with comments; it changes nothing.

    Its rules keep memory available on the machine, and limit each session and each member. Sizes
    follow from the memory of the machine: on a small one, a session may use most of it.
    """
    if name not in presets.NAMES:
        *others, last = presets.NAMES
        raise UsageError(f"unknown preset {name!r}", f"use {', '.join(others)} or {last}")
    click.echo(presets.text(name, _bytes(memory)), nl=False)


def _bytes(given: str | None) -> int:
    if given is None:
        total = memory.total_bytes()
        if total is None:
            raise UnavailableError("the memory of this machine cannot be read", "give --memory")
        return total
    try:
        return quantities.size("memory", given)
    except ValueError as error:
        raise UsageError(str(error)) from None
