"""Gives living scopes a second name of their session, as a client names it too late for the launch.

The name of the unit stays; the label is in the scope's record. A scope that the session gets later
takes the label over, if it has the same owner (``history.session_label``). ``run`` with a label as
its session makes a scope of its own.
"""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scopekeeper.history import launch_ledger, session_label
from scopekeeper.kernel import cgroupfs
from scopekeeper.kernel.proc import boottime, open_lock
from scopekeeper.scope import names, record_parser, records
from scopekeeper.scope.model import Liveness, Member, Scope, Snapshot
from scopekeeper.scope.selection import Selected, Selector, select

ENDED = "it has ended"
NEWER = "it has the label of a newer session"
_SINCE = "LABELLED"
"""In the record: when the session of a hook began, in microseconds of CLOCK_BOOTTIME."""
_DIGITS = 20
_LOCK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Labelled:
    """What became of one scope; problem is '' if it has the label now."""

    scope: Scope
    """As it was before."""
    label: str
    """The label that it has now; '' if none."""
    problem: str


def check(session: str) -> str:
    """Return a name that a session can have, or raise ValueError."""
    return names.check("label", session, names.SESSION_MAX)


def label(
    selected: Sequence[Selected],
    session: str,
    snapshot: Snapshot | None = None,
    *,
    moment: int = 0,
) -> list[Labelled]:
    """Give each selected scope this label instead of an earlier one; '' removes it.

    The scopes that their sessions get later from the same owners take it over. Not if a session
    has scopes in the snapshot that were not selected: then only some of its work is meant.

    moment is when the session began, in microseconds of CLOCK_BOOTTIME, if several processes may
    label the scope at once: then the label of a session that has begun later stays.

    Refused: a scope in which only some of the members are selected, since the label would select
    the others too; and what is not alive, is being stopped, is in another container or has a
    record that cannot be used.
    """
    done = []
    for scope, members in _by_scope(selected):
        wanted = "" if session == scope.session else session
        problem = _refusal(scope, members) or _write(scope, wanted, moment)
        done.append(Labelled(scope, scope.label if problem else wanted, problem))
    _remember(done, snapshot.scopes if snapshot is not None else ())
    return done


def unnamed(snapshot: Snapshot, owner: str) -> list[Selected]:
    """Return what this owner, a pid or a unit, has in scopes without a client's name.

    Only of an owner that lives: the number of an ended process can be another's.
    """
    return [
        each
        for each in select(snapshot, Selector(owner=owner))
        if is_unnamed(each.scope) and each.member and _owner_lives(each.member)
    ]


def is_unnamed(scope: Scope) -> bool:
    """Return whether a scope has no label of its own, and its session only its owner's name.

    A label that it took over is not its own: a client may have begun another session since.
    """
    has_own = scope.label and not scope.label_taken
    return not has_own and scope.owner.has_named(scope.session)


def _owner_lives(member: Member) -> bool:
    state = member.owner_state
    return state is not None and state.liveness is Liveness.ALIVE


def _by_scope(selected: Sequence[Selected]) -> list[tuple[Scope, set[str] | None]]:
    """Return each scope once, with the leaves that are selected; None means the whole scope."""
    found: dict[str, tuple[Scope, set[str] | None]] = {}
    for each in selected:
        scope, leaves = found.get(each.scope.directory, (each.scope, set()))
        if each.member is None:
            leaves = None
        elif leaves is not None:
            leaves.add(each.member.leaf)
        found[scope.directory] = scope, leaves
    return list(found.values())


def _remember(done: Sequence[Labelled], scopes: Sequence[Scope]) -> None:
    """Have the scopes that the sessions of some scopes get later take their labels over."""
    now = {each.scope.directory: each.label for each in done if not each.problem}
    for each in done:
        if each.problem:
            continue
        for life in _lives_of_owners(each.scope):
            if all(
                now.get(other.directory, other.label) == each.label
                for other in scopes
                if other.session == each.scope.session and life in _lives_of_owners(other)
            ):
                session_label.remember(each.scope.session, life, each.label)


def _lives_of_owners(scope: Scope) -> set[str]:
    """Return what names the lives of the owners that launch into a scope."""
    owners = [m.owner_state.owner for m in scope.present_members if m.owner_state is not None]
    return {session_label.life_of(owner) for owner in (scope.owner, *owners)} - {""}


def _refusal(scope: Scope, leaves: set[str] | None) -> str:
    if scope.problem or scope.claims is not None:
        return scope.problem or scope.forgery
    if scope.elsewhere:
        return "it was made in another container; label it there"
    if scope.stopping:
        return "it is being stopped"
    if not (scope.lives or scope.present_members):
        return "nothing runs in it"
    others = len([m for m in scope.present_members if leaves is not None and m.leaf not in leaves])
    if others:
        count = len(scope.present_members)
        return f"{others} of its {count} members are not selected; a label is the whole scope's"
    return ""


def _write(scope: Scope, label: str, moment: int) -> str:
    """Write the label into the record; return why that was not possible, '' if it was."""
    try:
        with _locked(scope.directory, scope.inode) as fd:
            raw = os.getxattr(fd, records.ATTRIBUTE)
            if record_parser.scope(raw, scope.unit).mark is not None:
                return "it is being stopped"
            fields = records.loads(raw)
            if moment and _is_later(fields.get(_SINCE, ""), moment):
                return NEWER
            since = {_SINCE: str(moment) if moment else "", "LABEL_TAKEN": ""}
            changed = records.dumps({**fields, "LABEL": label} | since)
            os.setxattr(fd, records.ATTRIBUTE, changed, os.XATTR_REPLACE)
            if not _is(scope.directory, scope.inode):
                return ENDED
            born = fields.get("BOOTTIME", "")
            launch_ledger.append(launch_ledger.label_line(scope.cgroup, born, label))
    except records.RecordError as error:
        return str(error)
    except TimeoutError as error:
        return str(error)
    except OSError as error:
        return _problem(scope, error)
    return ""


def _is_later(text: str, moment: int) -> bool:
    """Return whether the moment in a record is later; one that is still to come is forged."""
    is_number = text.isdecimal() and text.isascii() and len(text) <= _DIGITS
    return is_number and moment < int(text) <= boottime()


def _problem(scope: Scope, error: OSError) -> str:
    if error.errno in cgroupfs.GONE:
        return ENDED
    if error.errno in (errno.EPERM, errno.EACCES):
        return f"it belongs to uid {scope.uid}; label it as that user"
    return f"its record cannot be written: {error.strerror}"


@contextlib.contextmanager
def _locked(directory: str, inode: int) -> Iterator[int]:
    """Open a scope and hold its lock, so that no launch, stop or keeper changes it meanwhile.

    Raises OSError, TimeoutError if another process holds the lock for too long.
    """
    fd = os.open(directory, cgroupfs.FOLDER)
    lock = -1
    try:
        if os.fstat(fd).st_ino != inode:
            raise FileNotFoundError(errno.ENOENT, ENDED, directory)
        lock = open_lock(fd)
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError("another process is changing it; try again") from None
                time.sleep(0.002)
        yield fd
    finally:
        if lock >= 0:
            os.close(lock)
        os.close(fd)


def _is(directory: str, inode: int) -> bool:
    """Return whether a scope is still the one that was opened."""
    try:
        return os.stat(directory).st_ino == inode
    except OSError:
        return False
