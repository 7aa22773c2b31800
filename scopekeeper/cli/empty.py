"""The one line that a list with no rows prints."""

import sys

import click


def nothing(text: str) -> None:
    """Print that there is nothing to list: on stderr if stdout is no terminal.

    A script that reads stdout finds no new line in it.
    """
    click.echo(text, err=not sys.stdout.isatty())
