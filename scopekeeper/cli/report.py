"""``scopekeeper report``."""

import os
import stat
import time
from typing import Any

import click

from scopekeeper import regular_files, state, whole_file
from scopekeeper.cli import report_lives, unseen
from scopekeeper.cli.examples import examples
from scopekeeper.cli.history import read_histories
from scopekeeper.cli.output import write_bytes
from scopekeeper.cli.show import safe, unread_text, warn
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
    ),
)
@click.argument("target", metavar="FILE")
@click.option("--since", "since_text", metavar="TIME", default="1d", show_default=True,
              help="Only ends since this time (2h, ISO 8601, or @SECONDS).")  # fmt: skip
@with_all_users("What every user runs, and their history; root only.")
@click.option("--commands", is_flag=True, help="Also show commands with their arguments, which may "
              "hold secrets.")  # fmt: skip
@click.option("-f", "--force", is_flag=True, help="Replace FILE also if it is no page of this "
              "command.")  # fmt: skip
def command(target: str, *, since_text: str, all_users: bool, commands: bool, force: bool) -> None:
    """Write what ended and what runs as one page for a browser.

    FILE gets a timeline of scopes by session and lane, coloured by the reason of their end; CPU and
    memory by session; the servers that use most; orphans and escaped processes; and a table of all
    members to sort and filter. - prints it.

    The page is one file, fetches nothing and sends nothing. It has names of sessions and members,
    no arguments of commands and no environment. It is readable by you only; where a page was
    before, its permissions stay. Another file is not replaced.
    """
    mode = _PRIVATE if target == _PRINT else _mode(target, force=force)
    try:
        begin = since("since", since_text, time.time())
    except ValueError as error:
        raise UsageError(str(error)) from None
    made = _made(begin, all_users=all_users, commands=commands)
    content = page(made).encode()
    warn(made.notes)
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


def _mode(target: str, *, force: bool) -> int:
    """Return the permissions of the file to write; raises UsageError if it may not be replaced."""
    if not target:
        raise UsageError("FILE is empty", "give the name of a file, or - to print")
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
