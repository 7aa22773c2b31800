"""What ``ls``, ``stop`` and ``wait`` do, as functions."""

import datetime as dt
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypedDict, Unpack

from scopekeeper.errors import NotFoundError, RemainsError, UsageError
from scopekeeper.exec.run import Ended
from scopekeeper.exec.wait import waiter
from scopekeeper.kernel.proc import mount_point
from scopekeeper.launch.leave_scope import step_aside
from scopekeeper.lifecycle import observe, stop_target
from scopekeeper.lifecycle import stop as stopping
from scopekeeper.python_api.options import Duration, duration, in_python
from scopekeeper.python_api.process import log
from scopekeeper.python_api.stop_members import is_left, release
from scopekeeper.quantities import duration as microseconds
from scopekeeper.scope.mine import find_own
from scopekeeper.scope.model import Member, Scope, Snapshot
from scopekeeper.scope.placement import Caller
from scopekeeper.scope.reason import Cause, Reason
from scopekeeper.scope.records import LIFETIMES
from scopekeeper.scope.resolve import choose, listed
from scopekeeper.scope.selection import STATES, Selected, Selector, select
from scopekeeper.scope.snapshot import Reader

Lifetime = Literal["gateway", "session", "detached"]


class Selection(TypedDict, total=False):
    """Arguments of ``list_scopes`` and ``stop``: the options of the commands ``ls`` and ``stop``.

    All that is given narrows down; None selects everything.
    """

    session: str | None
    """The gateway's key of a session."""
    lane: str | None
    """How the work came in."""
    run: str | None
    """One run."""
    session_id: str | None
    """The gateway's id of one life of a session."""
    name: str | None
    """Members of this name."""
    owner: str | int | None
    """Members that belong to this gateway: a unit's name, or a pid."""
    mine: bool
    """Members that belong to this process, or to its service in any life."""
    lifetime: Lifetime | Iterable[Lifetime]
    """Scopes of one of these lifetimes."""
    started_before: dt.datetime | float | None
    """Members started before; a number is seconds since the epoch."""
    state: str | Iterable[str]
    """Scopes in one of these states, as ``scopekeeper ls`` names them."""


@dataclass(frozen=True, slots=True)
class MemberInfo:
    """One member of a scope at one moment."""

    name: str
    member_id: str
    """8 hex digits."""
    cgroup: str
    state: str
    pid: int | None
    """The launched process, which may have ended; None if its record is damaged."""
    pids: tuple[int, ...]
    """Every process that lives in it."""
    owner: str
    """The owner's unit, or ``pid N``; '' if it is not known."""
    started: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class ScopeInfo:
    """One scope at one moment, as ``scopekeeper ls`` shows it."""

    unit: str
    """The name of its systemd unit, or of its cgroup if there is no systemd."""
    cgroup: str
    """Its path below the mount point."""
    uid: int
    session: str
    lane: str
    run: str
    session_id: str
    kind: str
    lifetime: str
    state: str
    """One of the states that ``scopekeeper ls`` shows."""
    age: float
    """Seconds."""
    memory_bytes: int | None
    """None if the memory controller is not delegated."""
    cpu_seconds: float | None
    members: tuple[MemberInfo, ...]


def list_scopes(*words: str, **selection: Unpack[Selection]) -> list[ScopeInfo]:
    """Return this user's scopes in which something is selected, as ``scopekeeper ls`` lists them.

    Without arguments, all of them. A word is the id of a run, a session's key or id, a scope's
    unit, or a member's name, id or leaf; one that matches nothing is no error. Reads cgroupfs
    alone. Raises UsageError.
    """
    selector = _selector(selection)
    snapshot = Reader(mount_point(), usage=True).snapshot(uid=os.getuid())
    return [_scope(each) for each in listed(snapshot, words, selector)[0]]


def stop(
    *words: str,
    grace: Duration | None = None,
    note: str = "",
    escaped: bool = False,
    **selection: Unpack[Selection],
) -> list[stop_target.Result]:
    """Stop scopes or single members, and verify that no process is left.

    Words are as for ``list_scopes``; one of them or of ``session``, ``session_id``, ``name``,
    ``owner``, ``mine`` and ``state`` has to be given. ``grace`` is the time between SIGTERM and
    SIGKILL, by default that of the launch, else 5 s. ``note`` is kept in the history. With
    ``escaped``, processes that had left a stopped scope are ended too, if that is proved.

    Returns one result for each scope or member, and none if the options match nothing. Raises
    NotFoundError if a word matches nothing, and stops nothing then; RemainsError, which has the
    results, if a process is left or something was refused; UsageError.
    """
    selector = _selector(selection)
    if not words and selector.names_nothing():
        raise UsageError(
            "no target given",
            "give a word, or session=, session_id=, name=, owner=, mine= or state=",
        )
    seconds = None if grace is None else _seconds("grace", grace)
    mount = mount_point()
    snapshot = Reader(mount, unlock=True).snapshot(uid=os.getuid())
    selected = _selected(snapshot, words, selector) if words else select(snapshot, selector)
    targets = [stop_target.target_of(each, seconds, as_judged=selector.judges) for each in selected]
    warnings: list[str] = []
    results = stopping.stop(
        targets, causes=[Cause(Reason.STOPPED, note)] * len(targets), warnings=warnings,
        step_out=step_aside, asker=observe.stopper(os.getpid()), ends_escaped=escaped,
    )  # fmt: skip
    for text in warnings:
        log.warning(text)
    release(mount, {each.scope.unit for each in selected})
    problems = [
        _problem(each, result)
        for each, result in zip(selected, results, strict=True)
        if is_left(result) or result.escaped
    ]
    if problems:
        raise RemainsError("; ".join(problems), "look with: scopekeeper ls --members", results)
    return results


def wait(*runs: str, timeout: Duration | None = None) -> list[Ended | None]:
    """Wait until runs have ended, and return how each did; None if that is not known.

    A run is one of ``scopekeeper exec``, by its id or the beginning of it, or any other one by its
    id. ``Ended.status`` is the exit status as a shell reports it. Raises TimeoutError if one still
    runs after ``timeout``, NotFoundError if there is no such run, UnavailableError if no keeper
    can be reached. For a member that this process started, use ``Process.wait``.
    """
    seconds = None if timeout is None else _seconds("timeout", timeout)
    deadline = None if seconds is None else time.monotonic() + seconds
    waits = [waiter(run) for run in runs]
    ends = []
    for run, wait_until in waits:
        try:
            ends.append(wait_until(deadline))
        except TimeoutError:
            raise TimeoutError(f"the run {run} has not ended yet") from None
    return ends


def _selector(given: Selection) -> Selector:
    """Return what is selected; raises UsageError."""
    unknown = sorted(given.keys() - Selection.__annotations__.keys())
    if unknown:
        raise TypeError(f"there is no argument {unknown[0]!r}")
    for key in ("session", "session_id", "name", "owner"):
        if given.get(key) == "":
            raise UsageError(f"{key}='' is empty", "give it a value, or leave it out")
    owner, before = given.get("owner"), given.get("started_before")
    return Selector(
        session=given.get("session"),
        lane=given.get("lane"),
        run=given.get("run"),
        session_id=given.get("session_id"),
        name=given.get("name"),
        owner=None if owner is None else str(owner),
        own=find_own(Caller(), os.getpid()) if given.get("mine") else None,
        lifetimes=_set("lifetime", given.get("lifetime", ()), LIFETIMES),
        states=_set("state", given.get("state", ()), STATES),
        started_before=before.timestamp() if isinstance(before, dt.datetime) else before,
    )


def _set(name: str, given: str | Iterable[str], allowed: Iterable[str]) -> frozenset[str]:
    found = frozenset([given] if isinstance(given, str) else given)
    if wrong := sorted(found - set(allowed)):
        raise UsageError(f"{name}={wrong[0]!r} is not valid", f"use one of {', '.join(allowed)}")
    return found


def _seconds(name: str, given: Duration) -> float:
    try:
        return microseconds(name, duration(name, given)) / 1e6
    except ValueError as error:
        raise UsageError(in_python(str(error))) from None


def _selected(snapshot: Snapshot, words: tuple[str, ...], selector: Selector) -> list[Selected]:
    found = choose(snapshot, words, selector)
    for word, members in found.several:
        leaves = ", ".join(each.member.leaf for each in members if each.member)
        raise UsageError(f"{len(members)} members are called {word}: {leaves}",
                         f"give one of these, or name={word!r} for all of them")  # fmt: skip
    if found.missing:
        raise NotFoundError(
            f"no run, session, scope or member of yours is {found.missing[0]!r}",
            "scopekeeper.list_scopes() returns what there is",
        )
    return list(found.selected)


def _problem(selected: Selected, result: stop_target.Result) -> str:
    name = selected.scope.unit + (f": {selected.member.name}" if selected.member else "")
    if result.outcome == "refused":
        return f"{name} was skipped: {result.problem}"
    left = [f"pid {each.pid} ({each.command[:60]}) cannot be killed" for each in result.remaining]
    left += [f"pid {each.pid} ({each.command[:60]}) had left it" for each in result.escaped]
    return f"{name}: {', '.join(left) or 'something cannot be killed'}"


def _scope(scope: Scope) -> ScopeInfo:
    return ScopeInfo(
        unit=scope.unit,
        cgroup=scope.cgroup,
        uid=scope.uid,
        session=scope.session,
        lane=scope.lane,
        run=scope.run,
        session_id=scope.session_id,
        kind=scope.kind,
        lifetime=scope.lifetime,
        state=scope.state,
        age=scope.age,
        memory_bytes=scope.memory_bytes,
        cpu_seconds=None if scope.cpu_usec is None else scope.cpu_usec / 1e6,
        members=tuple(map(_member, scope.members)),
    )


def _member(member: Member) -> MemberInfo:
    return MemberInfo(
        name=member.name,
        member_id=member.member_id,
        cgroup=member.cgroup,
        state=member.state,
        pid=member.pid,
        pids=member.pids,
        owner=member.owner_state.owner.label if member.owner_state else "",
        started=member.started / 1e6,
    )
