"""The one line that a list with no rows prints."""

import sys

from scopekeeper.cli.colour import say


def nothing(text: str) -> None:
    """Print that there is nothing to list: on stderr if stdout is no terminal.

    A script that reads stdout finds no new line in it.
    """
    say(text, err=not sys.stdout.isatty())
