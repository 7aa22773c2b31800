"""Colours of output: on a terminal alone, or as ``--color`` says; and the one way to print them.

Standard output escapes every control character. Sequences that set a colour pass, and only in
lines that are printed by ``echo``: their texts are made safe before they are painted.
"""

import os
import sys
from enum import Enum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    _Command = TypeVar("_Command", bound=Callable[..., object])
CHOICES = ("auto", "always", "never")


class Paint(Enum):
    """How a text is painted; the value is the parameter of the terminal's sequence (SGR)."""

    BOLD = "1"
    DIM = "2"
    RED = "31"
    GREEN = "32"
    YELLOW = "33"
    CYAN = "36"


PAINTED = r"\x1b\[[0-9]{0,2}m"
"""The pattern of the sequences that ``painted`` writes."""


def painted(text: str, paint: Paint | None) -> str:
    """Return a safe text between the sequences that begin and end a colour."""
    return f"\x1b[{paint.value}m{text}\x1b[0m" if paint and text else text


def with_color(command: "_Command") -> "_Command":
    """Add the option to a command; it is called with ``color``."""
    import click

    return click.option("--color", type=click.Choice(CHOICES), default=CHOICES[0], metavar="WHEN",
                        help="Use colours: auto (the default) is on a terminal, unless $NO_COLOR "
                        "is set; always; never.")(command)  # fmt: skip


def is_wanted(color: str = CHOICES[0]) -> bool:
    """Return whether standard output is to have colours."""
    if color != CHOICES[0]:
        return color == CHOICES[1]
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb"
    return not plain and sys.stdout.isatty()


def echo(line: str) -> None:
    """Print a line of safe texts; some may be painted."""
    if "\x1b" not in line:
        say(line)
        return
    write_painted = getattr(sys.stdout, "write_painted", sys.stdout.write)
    write_painted(f"{line}\n")


def say(line: str, *, err: bool = False) -> None:
    """Print a line without colours, on standard error if err; as click.echo, without click."""
    out = sys.stderr if err else sys.stdout
    if out is not None:
        out.write(f"{line}\n")
        out.flush()
