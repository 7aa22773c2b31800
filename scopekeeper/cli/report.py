"""``scopekeeper report``."""

import os
import stat
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from scopekeeper import regular_files, state, whole_file
from scopekeeper.cli import report_lives, unseen
from scopekeeper.cli.examples import examples
from scopekeeper.cli.history import read_histories
from scopekeeper.cli.on_hosts.options import with_hosts
from scopekeeper.cli.output import write_bytes
from scopekeeper.cli.show import answer, safe, safe_json, unread_text, warn
from scopekeeper.cli.users import uid_of, with_all_users
from scopekeeper.errors import ScopekeeperError, UsageError
from scopekeeper.history.store import HistoryStore
from scopekeeper.kernel.proc import mount_point
from scopekeeper.lifecycle import escaped
from scopekeeper.quantities import show_bytes, since
from scopekeeper.report.model import Life, Outside, Report, Running, counted
from scopekeeper.report.page import HEAD, page
from scopekeeper.scope.snapshot import Reader
from scopekeeper.version import __version__

_PRINT = "-"
_PRIVATE = 0o600


@click.command(
    "report",
    epilog=examples(
        "scopekeeper report today.html",
        "scopekeeper report --since 7d week.html",
        "scopekeeper report --since 2h -",
        "scopekeeper report -H @build build.html",
    ),
)
@with_hosts("report")
@click.argument("target", metavar="FILE", required=False)
@click.option("--since", "since_text", metavar="TIME", default="1d", show_default=True,
              help="Only ends since this time (2h, ISO 8601, or @SECONDS).")  # fmt: skip
@with_all_users("What every user runs, and their history; root only.")
@click.option("--commands", is_flag=True, help="Also show commands with their arguments, which may "
              "hold secrets.")  # fmt: skip
@click.option("-f", "--force", is_flag=True, help="Replace FILE also if it is no page of this "
              "command.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Instead of a page, print what it would be "
              "made of as one versioned JSON object: -H asks for it.")  # fmt: skip
def command(
    target: str | None,
    *,
    since_text: str,
    all_users: bool,
    commands: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Write what ended and what runs as one page for a browser.

    FILE gets a timeline of scopes by session and lane, coloured by the reason of their end; CPU and
    memory by session; the servers that use most; orphans and escaped processes; and a table of all
    members to sort and filter. - prints it.

    The page is one file, fetches nothing and sends nothing. It has names of sessions and members,
    no arguments of commands and no environment. It is readable by you only; where a page was
    before, its permissions stay. Another file is not replaced. With -H it is about these hosts; one
    that does not answer is named on it.
    """
    file = target_of(target, force=force, as_json=as_json)
    made = _made(begin_of(since_text), all_users=all_users, commands=commands)
    warn(made.notes)
    if file is None:
        answer(_document(made))
    else:
        write(file, made)


Target = tuple[str, int]
"""The name of a file, or -, and the permissions that it gets."""


def target_of(name: str | None, *, force: bool, as_json: bool) -> Target | None:
    """Return where the page goes; None if there is none. Raises UsageError if it may not."""
    if as_json and name is not None:
        raise UsageError("--json and FILE exclude each other", "--json prints; give one of them")
    if as_json:
        return None
    if not name:
        problem = "FILE is missing" if name is None else "FILE is empty"
        raise UsageError(problem, "give the name of a file, or - to print")
    return name, _PRIVATE if name == _PRINT else _mode(name, force=force)


def begin_of(text: str) -> float:
    """Return the moment that --since names; raises UsageError."""
    try:
        return since("since", text, time.time())
    except ValueError as error:
        raise UsageError(str(error)) from None


def write(file: Target, made: Report) -> None:
    """Write the page, or print it; raises ScopekeeperError."""
    target, mode = file
    content = page(made).encode()
    if target == _PRINT:
        write_bytes(content)
        return
    try:
        whole_file.replace(target, content, mode=mode)
    except OSError as error:
        raise ScopekeeperError(
            f"cannot write {target}: {error.strerror}", "give another FILE"
        ) from None
    ended = sum(each.ended is not None for each in made.lives)
    click.echo(
        f"wrote {safe(os.path.abspath(target))} ({show_bytes(len(content))}): "
        f"{counted(ended, 'end')}, {counted(len(made.running), 'scope')} that run"
        f"{'s' if len(made.running) == 1 else ''}"
    )


def _document(made: Report) -> dict[str, Any]:
    return {
        "machine": safe_json(made.machine),
        "lives": _objects(made.lives),
        "running": _objects(made.running),
        "outside": _objects(made.outside),
        "notes": [safe_json(each) for each in made.notes],
    }


def _objects(found: Sequence[Life | Running | Outside]) -> list[dict[str, Any]]:
    return [
        {key: safe_json(x) if isinstance(x, str) else x for key, x in asdict(each).items()}
        for each in found
    ]


def _mode(target: str, *, force: bool) -> int:
    """Return the permissions of the file to write; raises UsageError if it may not be replaced."""
    try:
        found = os.lstat(target)
    except OSError:
        return _PRIVATE  # writing reports what is wrong with the folder
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(f"{target} is no regular file", "give another FILE, or - to print")
    if not (force or found.st_size == 0 or _is_page(target)):
        raise UsageError(
            f"{target} exists, and is no page of `scopekeeper report`",
            "give another FILE, or --force to replace it",
        )
    return stat.S_IMODE(found.st_mode) & 0o666


def _is_page(target: str) -> bool:
    try:
        with open(regular_files.open_regular(target), "rb") as file:
            return file.read(len(HEAD)) == HEAD.encode()
    except OSError:
        return False


def _made(begin: float, *, all_users: bool, commands: bool) -> Report:
    unseen.collect()

    def read() -> list[dict[str, Any]]:
        ends = HistoryStore(state.directory()).read(since=int(begin * 1e6))
        return [
            {"ended": x.ended, "document": {}, "life": report_lives.of_end(x, commands=commands)}
            for x in ends
        ]

    found = read_histories(read, all_users=all_users)
    lives = list(report_lives.ended(found, users=all_users))
    running: list[Running] = []
    outside: list[Outside] = []
    notes: list[str] = []
    now = time.time()
    try:
        alive, running, outside, notes = _running(now, all_users=all_users, commands=commands)
        lives += alive
    except LookupError as error:  # no cgroup2: the history can be shown all the same
        if "cgroup2" not in str(error):
            raise
        notes = [f"what runs now could not be read: {error.args[0]}"]
    return Report(
        report_lives.machine(), begin, now, __version__, tuple(lives), tuple(running),
        tuple(outside), tuple(notes), users=all_users, commands=commands,
    )  # fmt: skip


def _running(
    now: float, *, all_users: bool, commands: bool
) -> tuple[list[Life], list[Running], list[Outside], list[str]]:
    uid = uid_of(all_users=all_users)
    snapshot = Reader(mount_point(), usage=True).snapshot(uid=uid)
    lives, running = report_lives.of_scopes(snapshot, now, users=all_users, commands=commands)
    gone = report_lives.outside(escaped.find(snapshot, uid), users=all_users, commands=commands)
    return lives, running, gone, unread_text(snapshot.unread)
