"""What the page of ``report`` is about: from the documents of the history, and from what runs."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scopekeeper.cli.ends import Ends
from scopekeeper.cli.ls_rows import owners
from scopekeeper.cli.users import user
from scopekeeper.history.end import End
from scopekeeper.kernel import cgroupfs
from scopekeeper.kernel.exit_status import signal_name
from scopekeeper.kernel.usage import command_line
from scopekeeper.lifecycle.escaped import Escaped
from scopekeeper.lifecycle.observe import memory_peak
from scopekeeper.report.model import RUNNING, Life, Outside, Running
from scopekeeper.scope.model import Scope, Snapshot

_LONGEST = 300
"""Characters of a command on the page."""


def of_end(end: End, *, commands: bool) -> dict[str, Any]:
    """Return the fields of an ended member as a JSON value, see ``Life``.

    As root it comes from a child that has the rights of the history's user.
    """
    status = "-" if end.exit_status is None else str(end.exit_status)
    return {
        "session": end.shown_session,
        "lane": end.lane,
        "unit": end.unit,
        "member": end.name,
        "reason": end.reason.value,
        "started": end.started / 1e6 if end.started else None,
        "ended": end.ended / 1e6,
        "kind": end.kind,
        "seen": end.seen,
        "status": status if end.signal is None else signal_name(end.signal),
        "evidence": end.evidence,
        "memory_peak": end.memory_peak,
        "cpu": None if end.cpu_usec is None else end.cpu_usec / 1e6,
        "command": _cut(end.argv) if commands else "",
    }


def ended(found: Sequence[Mapping[str, Any]], *, users: bool) -> Iterator[Life]:
    """Yield the members of the histories that ``read_histories`` has read."""
    for each in found:
        yield Life(**each["life"], user=user(each["uid"]) if users else "")


def of_scopes(
    snapshot: Snapshot, now: float, *, users: bool, commands: bool
) -> tuple[list[Life], list[Running]]:
    """Return the members that run, and their scopes; now is in seconds since the epoch."""
    ends = Ends(snapshot)
    lives: list[Life] = []
    running: list[Running] = []
    for scope in snapshot.scopes:
        if not scope.lives:
            continue
        name = user(scope.uid) if users else ""
        lives += _members(scope, (snapshot.now, now), name, commands=commands)
        state = ends.state(scope)
        running.append(
            Running(
                scope.shown_session, scope.lane, scope.unit, state, owners(scope),
                _evidence(scope), len(scope.living_members), len(scope.pids), scope.age,
                scope.memory_bytes, None if scope.cpu_usec is None else scope.cpu_usec / 1e6, name,
            )
        )  # fmt: skip
    return lives, running


def _members(
    scope: Scope, clocks: tuple[int, float], name: str, *, commands: bool
) -> Iterator[Life]:
    """Yield the living members; clocks are CLOCK_BOOTTIME in microseconds, and the same moment."""
    boottime, now = clocks
    for member in scope.living_members:
        started = now - (boottime - member.born) / 1e6 if member.born else None
        used = cgroupfs.keyed(cgroupfs.read(member.directory, "cpu.stat"), "usage_usec")
        yield Life(
            scope.shown_session, scope.lane, scope.unit, member.name, RUNNING, started, None,
            user=name, kind=member.kind, memory_peak=memory_peak(member.directory),
            cpu=None if used is None else used / 1e6,
            command=_cut(command_line(member.shown_pid) or ()) if commands else "",
        )  # fmt: skip


def _evidence(scope: Scope) -> str:
    """Return what proves that its members are lost, each sentence once."""
    found = [
        member.owner_state.evidence if member.is_orphan and member.owner_state else member.abandoned
        for member in scope.living_members
    ]
    return "; ".join(dict.fromkeys(filter(None, found)))


def outside(found: Sequence[Escaped], *, users: bool, commands: bool) -> list[Outside]:
    """Return the processes that have left their scope."""
    return [
        Outside(
            each.label or each.session, each.lane, each.pid,
            each.command[:_LONGEST] if commands else each.program, each.evidence,
            user(each.uid) if users else "",
        )
        for each in found
    ]  # fmt: skip


def machine() -> str:
    """Return the name of this machine."""
    return os.uname().nodename or "this machine"


def _cut(argv: Sequence[str]) -> str:
    line = " ".join(argv)
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
