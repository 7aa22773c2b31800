"""``scopekeeper bugreport``."""

import json
import os
import stat
import time
from typing import Any

import click

from scopekeeper import whole_file
from scopekeeper.cli import report_parts
from scopekeeper.cli.examples import examples
from scopekeeper.cli.hidden_names import HiddenNames
from scopekeeper.cli.show import safe
from scopekeeper.cli.users import user
from scopekeeper.errors import ScopekeeperError, UsageError
from scopekeeper.quantities import show_bytes
from scopekeeper.users import home_of

_PRINT = "-"


@click.command(
    "bugreport",
    epilog=examples("scopekeeper bugreport", "scopekeeper bugreport --hide-names -o -"),
)
@click.option("-o", "--output", metavar="FILE", help="Write to FILE; - prints. By default a file "
              "named after the time, in the current folder.")  # fmt: skip
@click.option("--hide-names", is_flag=True, help="Replace names of sessions, members and lanes, "
              "and ids, by numbered ones.")  # fmt: skip
def command(output: str | None, hide_names: bool) -> None:
    """Write one file that describes this machine and what runs, to attach to a bug report.

    Has what doctor, ls and history print, versions, and the last lines of the keeper's log, as
    JSON. Has no arguments of commands and no environment. It is readable by you only: read it
    before you share it.
    """
    target = output or time.strftime("scopekeeper-bugreport-%Y%m%d-%H%M%S.json")
    if target != _PRINT:
        _check(target)
    report = _made(hide_names=hide_names)
    text = json.dumps(report, indent=2) + "\n"
    if target == _PRINT:
        click.echo(text, nl=False)
        return
    content = text.encode()
    try:
        whole_file.replace(target, content)
    except OSError as error:
        raise ScopekeeperError(
            f"cannot write {target}: {error.strerror}", "give another file with -o"
        ) from None
    click.echo(f"wrote {safe(os.path.abspath(target))} ({show_bytes(len(content))})")
    for line in report_parts.problems(report):
        click.echo(f"  without {safe(line)}")
    if not hide_names:
        click.echo("It has the names of sessions and members; --hide-names replaces them.")


def _check(target: str) -> None:
    """Raise UsageError for a device, a folder or a link: the file is replaced as a whole."""
    try:
        found = os.lstat(target)
    except OSError:
        return  # writing reports what is wrong with the folder
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(f"{target} is no regular file", "give another file with -o, or - to print")


def _made(*, hide_names: bool) -> dict[str, Any]:
    made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    uid = os.getuid()
    parts = report_parts.without_arguments(report_parts.parts())
    parts = report_parts.fitted(report_parts.without_home(parts, home_of(uid).rstrip("/")))
    if hide_names:
        hidden = HiddenNames(parts, user(uid) if uid else "").replace(parts)
        parts = report_parts.fitted(hidden)  # a number may be longer than its name
    return {"version": 1, "made": made, "names_hidden": hide_names, **parts}
