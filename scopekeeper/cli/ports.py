"""``scopekeeper ports``."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import click

from scopekeeper.cli import inside
from scopekeeper.cli.cells import Cell, Unit, number, text
from scopekeeper.cli.empty import nothing
from scopekeeper.cli.examples import examples
from scopekeeper.cli.inside import Part
from scopekeeper.cli.list_options import with_list_options
from scopekeeper.cli.list_view import ListOptions, Row
from scopekeeper.cli.ls_rows import counted
from scopekeeper.cli.on_hosts.options import with_hosts
from scopekeeper.cli.select_options import nothing_matched, with_target_options
from scopekeeper.cli.show import answer, safe, safe_json, warn, warn_unread
from scopekeeper.cli.table import Column, Fit
from scopekeeper.cli.users import uid_of, user, with_all_users
from scopekeeper.cli.whole_number import PORT
from scopekeeper.errors import NOTHING_MATCHED
from scopekeeper.kernel import listening, proc
from scopekeeper.kernel.listening import Listening
from scopekeeper.scope.selection import Selector
from scopekeeper.scope.snapshot import Reader

COLUMNS = (
    Column("USER", extra=True),
    Column("PROTO"),
    Column("ADDRESS", Fit.MIDDLE, 16),
    Column("SESSION", Fit.MIDDLE, 22),
    Column("LANE", Fit.MIDDLE, 6, need=3),
    Column("MEMBER", Fit.MIDDLE, 8),
    Column("PID", need=1, right=True, unit=Unit.NUMBER),
    Column("COMMAND", Fit.END, 12, need=2),
    Column("PORT", right=True, unit=Unit.NUMBER, extra=True),
    Column("UNIT", Fit.MIDDLE, 24, extra=True),
)


@dataclass(frozen=True, slots=True)
class _Shown:
    """A socket of a member, and the pids that are seen to hold it."""

    part: Part
    socket: Listening
    pids: tuple[int, ...]

    @property
    def command(self) -> str:
        """The command line of the oldest of these; '' without one."""
        return next((x.command for x in self.part.processes if x.pid in self.pids), "")

    @property
    def document(self) -> dict[str, Any]:
        """Its JSON object."""
        return {
            **self.part.document,
            "protocol": self.socket.protocol,
            "address": safe_json(self.socket.address),
            "port": self.socket.port,
            "pids": list(self.pids),
            "command": safe_json(self.command) or None,
        }


@click.command(
    "ports",
    epilog=examples(
        "scopekeeper ports",
        "scopekeeper ports agent:main:main",
        "scopekeeper ports --port 8931",
    ),
)
@with_hosts("ports")
@click.option("--port", metavar="N", type=PORT, help="Only this TCP or UDP port; names the "
              "process that has it, even outside of every scope.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one versioned JSON object.")
@with_target_options()
@with_all_users("Show what every user's scopes listen on.")
@with_list_options(COLUMNS)
def command(
    selector: Selector,
    words: tuple[str, ...],
    port: int | None,
    as_json: bool,
    all_users: bool,
    options: ListOptions,
) -> None:
    """Show which member listens on what: TCP, UDP and unix sockets.

    A word is the id of a run, a session's key or id, a scope's unit, or a member's name, id or
    leaf; without one, all of yours. The descriptors of its processes prove it. A socket without a
    PID was made in the member, and none of its processes is seen to hold it: it was handed over, or
    descriptors cannot be read. What is in another network namespace, as in a container, is missing.

    Exit status: 0 done; 2 wrong usage; 4 a word matched nothing, or no member has the port.
    """
    options.require_rows(as_json)
    view = options.view(COLUMNS)
    snapshot = Reader(proc.mount_point()).snapshot(uid=uid_of(all_users=all_users))
    selected, missing = inside.find(snapshot, words, selector, all_users=all_users)
    for line in _meant(missing):
        click.echo(line, err=True)
    sockets = listening.read(unix=port is None)
    if port is not None:
        sockets = [each for each in sockets if each.port == port]
    found = list(inside.parts(selected, lambda: sockets))
    every = [row for part in found for row in _rows(part)]
    rows = view.arranged(every)
    if as_json:
        answer({"ports": [row.of.document for row in rows]})
    elif rows:
        view.print(rows, also={"USER"} if all_users else (),
                   total=counted(len(rows), "socket"))  # fmt: skip
    elif port is None and not missing:
        none = "Nothing that is listed listens." if view.conditions else "Nothing listens."
        nothing(none if selector == Selector() else
                nothing_matched(selector, snapshot) if not selected else none)  # fmt: skip
    if port is not None and not every:
        click.echo(f"scopekeeper: {safe(_whose(port, sockets))}", err=True)
    if view.headers:
        warn(inside.unseen(found))
    warn_unread(snapshot.unread)
    raise SystemExit(NOTHING_MATCHED if missing or (port is not None and not every) else 0)


def _meant(missing: Sequence[str]) -> Iterator[str]:
    """Yield a line for each word that names nothing and could be the number of a port."""
    for word in missing:
        digits = word.removeprefix(":")
        if re.fullmatch(r"[1-9][0-9]{0,4}", digits) and int(digits) < 1 << 16:
            yield f"scopekeeper: for a port: scopekeeper ports --port {digits}"


def _rows(part: Part) -> Iterator[Row[_Shown]]:
    """Yield a row for each socket of a member, internet ones first."""
    holders: dict[Listening, list[int]] = {}
    for pid, sockets in part.sockets.items():
        for each in sockets:
            holders.setdefault(each, []).extend([pid] if pid else [])
    for each in sorted(holders, key=lambda x: (x.port is None, x.port or 0, x.protocol, x.address)):
        shown = _Shown(part, each, tuple(holders[each]))
        yield Row(_cells(shown), shown)


def _cells(shown: _Shown) -> tuple[Cell, ...]:
    part, socket = shown.part, shown.socket
    return (
        text(user(part.scope.uid)),
        text(socket.protocol),
        text(socket.shown),
        text(part.scope.shown_session),
        text(part.scope.lane),
        text(part.name),
        number(shown.pids[0] if shown.pids else None),
        text(shown.command),
        number(socket.port),
        text(part.scope.unit),
    )


def _whose(port: int, sockets: Sequence[Listening]) -> str:
    """Return the sentence on a port that no listed member has."""
    if not sockets:
        return f"nothing listens on port {port} in this network namespace"
    inodes = {each.inode for each in sockets}
    for pid in proc.pids():
        try:
            if inodes.isdisjoint(listening.held_by(pid)):
                continue
            where = "/".join(proc.cgroup_of(pid).split("/")[-2:]) or "/"
        except (OSError, LookupError):
            continue
        return f"port {port}: pid {pid} ({proc.comm(pid)}) in {where} has it, and no listed member"
    more = "" if os.getuid() == 0 else "; root can see whose it is"
    return f"port {port}: no listed member has it, and no process is seen to{more}"
