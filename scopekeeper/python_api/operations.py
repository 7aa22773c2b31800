"""What ``ls``, ``stop`` and ``wait`` do, as functions."""

import datetime as dt
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict, Unpack

from scopekeeper.errors import ConflictError, NotFoundError, UsageError
from scopekeeper.exec.run import Ended
from scopekeeper.exec.wait import waiter
from scopekeeper.kernel.proc import mount_point
from scopekeeper.launch.leave_scope import step_aside
from scopekeeper.lifecycle import label as labels
from scopekeeper.lifecycle import left_earlier, observe, stop_launched, stop_target
from scopekeeper.python_api import remains
from scopekeeper.python_api.limits import named_limits
from scopekeeper.python_api.options import Duration, plain_text, seconds
from scopekeeper.python_api.process import log
from scopekeeper.python_api.stop_members import release
from scopekeeper.safe_text import safe
from scopekeeper.scope.launched import Named, ends_with_launcher, kinds_of, listed
from scopekeeper.scope.mine import find_own
from scopekeeper.scope.model import Member, Scope, Snapshot
from scopekeeper.scope.nearby import about
from scopekeeper.scope.placement import Caller
from scopekeeper.scope.reason import Cause, Reason
from scopekeeper.scope.records import LIFETIMES
from scopekeeper.scope.resolve import choose
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
    label: str = ""
    """A second name of its session, given to it while it lived."""


@named_limits()
def list_scopes(*words: str, **selection: Unpack[Selection]) -> list[ScopeInfo]:
    """Return this user's scopes in which something is selected, as ``scopekeeper ls`` lists them.

    Without arguments, all of them. What these launched to outlive them is left out. A word is the
    id of a run, a session's key or id, a scope's unit, or a member's name, id or leaf; one that
    matches nothing is no error. Reads cgroupfs alone. Raises UsageError.
    """
    selector = _selector(selection)
    reader = Reader(mount_point(), usage=True)
    snapshot = reader.snapshot(uid=os.getuid(), about=about(words, selector))
    return [_scope(each) for each in listed(snapshot, words, selector).scopes]


@named_limits()
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

    Without ``escaped`` such processes are named by RemainsError, also if the scope has gone.

    Also stops what was launched from there by ``scopekeeper run``, as the command does.

    Returns one result for each scope or member, and none if the options match nothing. Raises
    NotFoundError if a word matches nothing, and stops nothing then; RemainsError, which has the
    results, if a process is left or something was refused; UsageError.
    """
    selector = _selector(selection)
    _check_target(words, selector, selection)
    wait_seconds = None if grace is None else seconds("grace", grace)
    cause = Cause(Reason.STOPPED, plain_text("note", note), observe.stopper(os.getpid()))
    mount = mount_point()
    wanted = about(words, selector)
    later = wanted.later() if wanted is not None else None

    def look() -> Snapshot:
        return Reader(mount, unlock=True).snapshot(uid=os.getuid(), about=later)

    snapshot = Reader(mount, unlock=True).snapshot(uid=os.getuid(), about=wanted)
    named, gone = Named(tuple(select(snapshot, selector)), selector), False
    if words:
        named, gone = _named(snapshot, words, selector)
    parts = stop_launched.parts(named, snapshot, wait_seconds)
    warnings: list[str] = []
    done = stop_launched.stop_all(
        named, parts, look, grace=wait_seconds, cause=cause, warnings=warnings,
        step_out=step_aside, ends_escaped=escaped,
    )  # fmt: skip
    results = [result for _, result in done]
    if escaped or gone or not results:
        results += _end_earlier(selector, words, results, cause if escaped else None, warnings)
    for text in warnings:
        log.warning(text)
    release(mount, {part.selected.scope.unit for part, _ in done})
    remains.check(results)
    return results


@named_limits()
def label(*words: str, label: str | None, **selection: Unpack[Selection]) -> list[ScopeInfo]:
    """Give living scopes a second name of their session, as ``scopekeeper label`` does.

    Words and arguments select as for ``stop``. The label selects as the session does, and counts
    for the whole scope. None removes it.

    Returns the scopes that were selected, as they are then, and none if the options match nothing.
    Raises NotFoundError if a word matches nothing, and labels nothing then; ConflictError if a
    scope was refused, and labels the others; UsageError.
    """
    selector = _selector(selection)
    _check_target(words, selector, selection)
    try:
        wanted = "" if label is None else labels.check(plain_text("label", label))
    except ValueError as error:
        raise UsageError(str(error)) from None
    reader = Reader(mount_point(), unlock=True)
    snapshot = reader.snapshot(uid=os.getuid())
    selected = select(snapshot, selector)
    if words:
        selected = list(_chosen(snapshot, words, selector))
    done = labels.label(selected, wanted, snapshot)
    if refused := [f"{each.scope.unit}: {each.problem}" for each in done if each.problem]:
        raise ConflictError(safe("; ".join(refused)))
    again = (reader.again().scope(each.scope.directory) for each in done)
    return [_scope(each) for each in again if each is not None]


def _chosen(snapshot: Snapshot, words: tuple[str, ...], selector: Selector) -> Sequence[Selected]:
    """Return what words name; raises NotFoundError, UsageError."""
    found = choose(snapshot, words, selector)
    for word, members in found.several:
        raise _several(word, [each.member.leaf for each in members if each.member])
    if found.missing:
        raise _unknown(found.missing[0])
    return found.selected


def _check_target(words: tuple[str, ...], selector: Selector, given: Selection) -> None:
    """Raise UsageError if everything of this user would be stopped."""
    if words or not selector.names_nothing():
        return
    narrows = [f"{key}=" for key, value in given.items() if value not in (None, False, ())]
    enough = "a word, or session=, session_id=, name=, owner=, mine= or state="
    if narrows:
        raise UsageError(
            f"no target given: {' and '.join(narrows)} alone is not enough", f"add {enough}"
        )
    raise UsageError("no target given", f"give {enough}")


def _end_earlier(
    selector: Selector,
    words: tuple[str, ...],
    results: Sequence[stop_target.Result],
    cause: Cause | None,
    warnings: list[str],
) -> list[stop_target.Result]:
    """Return a result for each member that living processes had left earlier.

    With a cause, what is proved to be a leftover is ended.
    """
    uid = os.getuid()
    named = {each.pid for result in results for each in result.escaped}
    found = [x for x in left_earlier.find_left(selector, words, uid) if x.pid not in named]
    outcomes = {} if cause is None else left_earlier.end_left(found, uid, cause, warnings)
    by_target: dict[str, stop_target.Result] = {}
    for each in found:
        path = f"{each.scope}/{each.leaf}".rstrip("/")  # the cgroup itself is gone
        result = by_target.setdefault(path, stop_target.Result(stop_target.Target(path, "")))
        outcome = outcomes.get(each.pid, "")
        if outcome in ("terminated", "killed"):
            result.ended_escaped += ((each, outcome),)
        else:
            result.escaped += (each,)
    return list(by_target.values())


def wait(*runs: str, timeout: Duration | None = None) -> list[Ended | None]:
    """Wait until runs have ended, and return how each did; None if that is not known.

    A run is one of ``scopekeeper exec``, by its id or the beginning of it, or any other one by its
    id. ``Ended.status`` is the exit status as a shell reports it. Raises TimeoutError if one still
    runs after ``timeout``, NotFoundError if there is no such run, UnavailableError if no keeper
    can be reached. For a member that this process started, use ``Process.wait``.
    """
    deadline = None if timeout is None else time.monotonic() + seconds("timeout", timeout)
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
    for key in ("session", "lane", "run", "session_id", "name"):
        if given.get(key) is not None:
            plain_text(key, given.get(key))
    owner = given.get("owner")
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
        started_before=_moment(given.get("started_before")),
    )


def _moment(given: object) -> float | None:
    """Return a moment in seconds since the epoch; raises UsageError."""
    if isinstance(given, dt.datetime):
        return given.timestamp()
    if given is None or (isinstance(given, int | float) and not isinstance(given, bool)):
        return given
    raise UsageError(
        f"started_before={given!r} is no moment", "give a datetime, or seconds since the epoch"
    )


def _set(name: str, given: str | Iterable[str], allowed: Iterable[str]) -> frozenset[str]:
    found = frozenset([given] if isinstance(given, str) else given)
    if wrong := sorted(found - set(allowed)):
        raise UsageError(f"{name}={wrong[0]!r} is not valid", f"use one of {', '.join(allowed)}")
    return found


def _named(snapshot: Snapshot, words: tuple[str, ...], selector: Selector) -> tuple[Named, bool]:
    """Return what words name, and whether one of them only names what had left a scope."""
    found = choose(snapshot, words, selector)
    for word, members in found.several:
        raise _several(word, [each.member.leaf for each in members if each.member])
    kinds = kinds_of(snapshot, words, dict(found.kinds), selector)
    named = Named(found.selected, selector, kinds)
    if same := named.ambiguous(snapshot):
        raise _several(*same)
    reached = [each for each in named.launched(snapshot) if ends_with_launcher(each.member)]
    unknown = named.unreached(found.missing, reached)
    left = left_earlier.find_left(selector, words, os.getuid()) if unknown else []
    missing = [w for w in unknown if not any(left_earlier.is_named(x, w) for x in left)]
    if missing:
        raise _unknown(missing[0])
    return named, bool(left)


def _unknown(word: str) -> NotFoundError:
    return NotFoundError(
        f"no run, session, scope or member of yours is {word!r}",
        "scopekeeper.list_scopes() returns what there is",
    )


def _several(word: str, members: Sequence[str]) -> UsageError:
    return UsageError(
        f"{len(members)} members are called {word}: {', '.join(members)}",
        f"give one of these, or name={word!r} for all of them",
    )


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
        label=scope.label,
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
