"""Reads the facts that metrics are made of: scopes, processes, the history, the runtime files."""

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Sequence

from scopekeeper import keeper_address, state
from scopekeeper.errors import HistoryError, StateError
from scopekeeper.history import failed_launches
from scopekeeper.history.store import HistoryStore
from scopekeeper.kernel import cgroupfs
from scopekeeper.kernel.unix_sockets import Sockets
from scopekeeper.lifecycle import escaped
from scopekeeper.metrics import cpu_totals, label_values
from scopekeeper.metrics.facts import RESOURCES, Facts, Session
from scopekeeper.metrics.label_values import OTHER
from scopekeeper.scope.model import Scope
from scopekeeper.scope.names import lane_class
from scopekeeper.scope.records import KINDS
from scopekeeper.scope.snapshot import Reader
from scopekeeper.users import name_of

_LANES = 20
"""How many lane classes have series of their own."""


def read(mount: str, sockets: Callable[[], Sockets], *, sessions: int, keep: bool) -> Facts:
    """Return what is known of this user now.

    mount is where cgroup2 is. sockets returns what is known of unix sockets, as for a Reader.
    sessions is how many sessions have series of their own. keep: whether the CPU time that was
    added up is kept for the next reading, which a publisher does.
    """
    uid = os.geteuid()
    snapshot = Reader(mount, usage=True, sockets=sockets).snapshot(uid=uid)
    living = [scope for scope in snapshot.scopes if scope.lives]
    facts = Facts(
        user=name_of(uid) or str(uid),
        scopes=_by_lane(snapshot.scopes),
        members=dict(Counter(x.state for scope in living for x in scope.present_members)),
        sessions=_by_session(living, sessions, keep=keep),
        escaped=len(escaped.find(snapshot, uid)),
        unread=len(snapshot.unread),
        ends=_ends(),
        keeper_runs=keeper_address.runs(),
    )
    with contextlib.suppress(OSError):
        facts.failed = failed_launches.totals()
    return facts


def others(mount: str) -> list[int]:
    """Return the uids of other users who have scopes, or have had some since they logged in."""
    found = {uid for _, uid in Reader(mount).of_others(os.geteuid())}
    with contextlib.suppress(OSError), os.scandir("/run/user") as folders:
        found |= {int(each.name) for each in folders if each.name.isdecimal()
                  and os.path.isdir(f"{each.path}/scopekeeper")}  # fmt: skip
    return sorted(found - {os.geteuid()})


def _by_lane(scopes: Sequence[Scope]) -> list[tuple[str, str, str, int]]:
    classes = label_values.bounded((lane_class(each.lane) for each in scopes), _LANES)
    counted = Counter(
        (classes[lane_class(each.lane)], each.kind if each.kind in KINDS else OTHER, each.state)
        for each in scopes
    )
    return [(*key, count) for key, count in sorted(counted.items())]


def _by_session(scopes: Sequence[Scope], number: int, *, keep: bool) -> dict[str, Session]:
    values = {each.session: label_values.of(each.session) for each in scopes}
    found: dict[str, Session] = {}
    for scope in scopes:
        _add(found.setdefault(values[scope.session], Session()), scope)
    shown = label_values.most(found, number, _weight)
    rest = Session()
    for value in found.keys() - shown:
        _merge(rest, found[value])
    found = {value: found[value] for value in sorted(shown)} | {OTHER: rest}
    seen = {
        f"{scope.cgroup}|{scope.inode}": (values[scope.session], scope.cpu_usec)
        for scope in scopes
        if scope.cpu_usec is not None
    }
    totals = cpu_totals.update(seen, shown, keep=keep)
    for value, session in found.items():
        session.cpu_seconds = totals.of(value) / 1e6
    return found


def _weight(session: Session) -> tuple[int, int]:
    return session.memory_bytes or 0, session.processes


def _add(session: Session, scope: Scope) -> None:
    pressure = {}
    for resource in RESOURCES:
        with contextlib.suppress(OSError):  # the kernel can be set not to measure it
            share = _share(cgroupfs.read(scope.directory, f"{resource}.pressure"))
            if share is not None:
                pressure[resource] = share
    _merge(session, Session(len(scope.pids), scope.memory_bytes, None, pressure))


def _merge(session: Session, other: Session) -> None:
    session.processes += other.processes
    if other.memory_bytes is not None:
        session.memory_bytes = (session.memory_bytes or 0) + other.memory_bytes
    for resource, share in other.pressure.items():
        session.pressure[resource] = max(share, session.pressure.get(resource, 0.0))


def _share(text: str | None) -> float | None:
    """Return ``avg60`` of the line ``some`` of a pressure file, from 0 to 1."""
    for word in (text or "").partition("\n")[0].split()[1:]:
        name, _, value = word.partition("=")
        if name == "avg60":
            return float(value) / 100
    return None


def _ends() -> dict[str, int] | None:
    try:
        found = HistoryStore(state.directory()).totals()
    except (HistoryError, StateError):
        return None
    return {reason.value: count for reason, count in found.items()}
