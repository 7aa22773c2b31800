"""The examples in the help of a command: one for ``--help``, the man page and docs/commands.md.

tests/systemd/test_examples.py runs each of them.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click

_HEAD = "\b\nExamples:\n"  # click leaves the lines of a paragraph that begins with \b as they are
_INDENT = "  "


def examples(*lines: str) -> str:
    """Return the ``epilog`` of a command that shows these command lines."""
    return _HEAD + "".join(f"{_INDENT}{line}\n" for line in lines)


def examples_of(command: "click.Command") -> list[str]:
    """Return the command lines that ``examples`` was given."""
    epilog = command.epilog or ""
    if not epilog.startswith(_HEAD):
        return []
    return [line.removeprefix(_INDENT) for line in epilog[len(_HEAD) :].splitlines()]
