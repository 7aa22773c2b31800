"""Puts processes that left by a scope of their own back into the leaf of their member.

Browsers do that: they ask the manager for a scope, and with it leave every limit, ``ls`` and
``stop``. Only a whole scope comes back, and only if all in it is of one member that lives: each
process carries the member's marker with nothing that contradicts it, or descends from one that
does (a sandbox hides its environment).
"""

import contextlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping

from scopekeeper.data import dataclass
from scopekeeper.kernel import cgroupfs, proc
from scopekeeper.kernel.exit_status import has_ended
from scopekeeper.lifecycle import escaped
from scopekeeper.lifecycle.escaped import Escaped, Living, may_be_ended
from scopekeeper.policy.rules import Policy
from scopekeeper.scope import names
from scopekeeper.scope.model import Member

_ROUNDS = 20
"""What is started meanwhile is moved in the next; what is moved starts its children inside."""
_MOST_PARENTS = 100


@dataclass(frozen=True, slots=True)
class Brought:
    """What came back from one scope."""

    first: Escaped
    """The first process there that carries the member's marker."""
    member: Member
    pids: tuple[int, ...]

    @property
    def evidence(self) -> str:
        """Return a sentence for the log."""
        count = "1 process" if len(self.pids) == 1 else f"{len(self.pids)} processes"
        where = f"{self.member.name} of {self.first.session}"
        return f"put {count} back into {where} from {self.first.cgroup}"


def step(each: Escaped, policy: Policy) -> str:
    """Return what the rules of its member say about a process: report, return or stop."""
    rule = policy.escaped(each.lane, each.kind)
    if rule == "return" and may_return(each):
        return "return"
    return "stop" if rule == "stop" and may_be_ended(each) else "report"


def is_own_scope(path: str) -> bool:
    """Return whether a cgroup is a scope that a program may have asked for, nobody's login."""
    unit = path.rpartition("/")[2]
    return unit.endswith(".scope") and not unit.startswith(("session-", "init.", names.PREFIX))


def may_return(each: Escaped) -> bool:
    """Return whether a process by itself may be put back."""
    return (
        not each.is_over
        and each.is_marked
        and not each.in_service
        and not each.contradiction
        and each.uid == os.geteuid()
        and is_own_scope(each.cgroup)
    )


def bring_back(
    mount: str, cgroup: str, living: Living, wanted: Callable[[Escaped], bool]
) -> Brought | None:
    """Put all processes of a scope back where they were started; None if they stay.

    cgroup is the scope's path; living are the members as of now; wanted says of a process whether
    its member's rules want it back. Raises OSError: the kernel refuses to move them, or the member
    is gone.
    """
    moved: list[int] = []
    home: _Home | None = None
    leaf = -1
    with contextlib.ExitStack() as closing:
        for _ in range(_ROUNDS):
            with _held(mount + cgroup) as pidfds:
                found = _home_of(pidfds, cgroup, living, wanted, home)
                if found is None:
                    break
                if home is None:
                    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
                    leaf = os.open(found.member.directory, flags)
                    closing.callback(os.close, leaf)
                    home = found
                moved += _move(pidfds, leaf, mount, cgroup)
    return Brought(home.first, home.member, tuple(moved)) if home is not None and moved else None


@dataclass(frozen=True, slots=True)
class _Home:
    """The one member that all processes of a scope are of, and the first that says so."""

    member: Member
    first: Escaped


@contextlib.contextmanager
def _held(directory: str) -> Iterator[dict[int, int]]:
    """Give a pidfd of each process in a cgroup, by pid; nothing where it has cgroups of its own.

    While its pidfd does not say that it has ended, a process has its number: what was looked up by
    that number is about this process.
    """
    with contextlib.ExitStack() as closing:
        pidfds = {}
        # one with cgroups of its own has an order of its own, as a container does
        inside = cgroupfs.children(directory)
        for pid in () if inside else cgroupfs.own_processes(directory):
            with contextlib.suppress(ProcessLookupError):
                pidfds[pid] = os.pidfd_open(pid)
                closing.callback(os.close, pidfds[pid])
        yield pidfds


def _home_of(
    pids: Collection[int],
    cgroup: str,
    living: Living,
    wanted: Callable[[Escaped], bool],
    home: _Home | None,
) -> _Home | None:
    """Return the member that all these processes are of and may go back to; else None.

    home is where others of the scope have gone back to already.
    """
    looked = (escaped.look(pid, os.geteuid(), living) for pid in pids)
    marked = {each.pid: each for each in looked if each is not None}
    if not all(e.cgroup == cgroup and may_return(e) and wanted(e) for e in marked.values()):
        return None
    members = {(each.scope, each.leaf) for each in marked.values()}
    if home is not None:
        members.add((home.first.scope, home.first.leaf))
    if len(members) != 1 or not pids:
        return None
    member = living[members.pop()]
    if member.stopping or not all(_descends(pid, marked, member.cgroup) for pid in pids):
        return None
    return home or _Home(member, next(iter(marked.values())))


def _descends(pid: int, marked: Collection[int], leaf: str) -> bool:
    """Return whether a process is marked, or is below one that is or that is in the leaf."""
    return any(each in marked or cgroupfs.path_of(each) == leaf for each in _line(pid))


def _line(pid: int) -> Iterator[int]:
    """Yield a process and its parents, as far as they can be read."""
    for _ in range(_MOST_PARENTS):
        yield pid
        with contextlib.suppress(OSError):
            stat = proc.stat_of(pid)
            if stat is not None and stat.parent > 1:
                pid = stat.parent
                continue
        return


def _move(pidfds: Mapping[int, int], leaf: int, mount: str, cgroup: str) -> list[int]:
    """Move processes from a cgroup to a leaf that is held open; return those that were moved.

    A write takes a number. If the process has ended by then, another can have it: that goes back.
    """
    moved = []
    for pid, pidfd in pidfds.items():
        if cgroupfs.path_of(pid) != cgroup:
            continue
        try:
            proc.write(f"/proc/self/fd/{leaf}/cgroup.procs", str(pid))
        except ProcessLookupError:
            continue
        if not has_ended(pidfd):
            moved.append(pid)
        elif proc.exists(f"/proc/{pid}"):
            proc.write(f"{mount}{cgroup}/cgroup.procs", str(pid))
    return moved
