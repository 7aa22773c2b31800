"""Puts processes that left by a scope of their own back into the leaf of their member.

Browsers do that: they ask the manager for a scope, and with it leave every limit, ``ls`` and
``stop``. Only a whole scope comes back, and only if all in it is of one member that lives: each
process carries the member's marker with nothing that contradicts it, or descends from one that
does (a sandbox hides its environment).
"""

import contextlib
import os
import select
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from scopekeeper.kernel import cgroupfs, proc
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


def bring_back(directory: str, living: Living, wanted: Callable[[Escaped], bool]) -> Brought | None:
    """Put all processes of a scope back where they were started; None if they stay.

    living are the members as of now; wanted says of a process whether its member's rules want it
    back. Raises OSError, such as where the kernel refuses to move them.
    """
    moved: list[int] = []
    with contextlib.ExitStack() as closing:
        target: tuple[Escaped, Member, int] | None = None
        for _ in range(_ROUNDS):
            found = _all_of_one_member(directory, moved, living, wanted)
            if found is None or (target is not None and target[1] != found[1]):
                break
            if target is None:
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
                leaf = os.open(found[1].directory, flags)
                closing.callback(os.close, leaf)
                target = (*found, leaf)
            moved += _move(cgroupfs.own_processes(directory), directory, target[2])
    return Brought(target[0], target[1], tuple(moved)) if target is not None and moved else None


def _all_of_one_member(
    directory: str, moved: Collection[int], living: Living, wanted: Callable[[Escaped], bool]
) -> tuple[Escaped, Member] | None:
    """Return a marked process of a scope, and the member that all in it are of; else None.

    moved are processes of the member that were there before.
    """
    if cgroupfs.children(directory):
        return None  # it has an order of its own, as a container does
    pids = cgroupfs.own_processes(directory)
    looked = (escaped.look(pid, os.geteuid(), living) for pid in pids)
    marked = {each.pid: each for each in looked if each is not None}
    members = {(each.scope, each.leaf) for each in marked.values()}
    if len(members) != 1 or not all(may_return(e) and wanted(e) for e in marked.values()):
        return None
    member = living[members.pop()]
    if member.stopping or not _all_descend(pids, marked.keys() | set(moved)):
        return None
    return next(iter(marked.values())), member


def _all_descend(pids: Collection[int], marked: Collection[int]) -> bool:
    """Return whether each process is one of marked or a descendant of one."""
    return all(any(pid in marked for pid in _line(pid)) for pid in pids)


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


def _move(pids: Collection[int], source: str, leaf: int) -> list[int]:
    """Move processes from one cgroup to one that is held open; return those that were moved.

    A write takes a number. It is proved by a pidfd, before and after, that it was the same process
    all the time; whatever else had its number by then goes back.
    """
    moved = []
    target = f"/proc/self/fd/{leaf}"
    for pid in pids:
        with contextlib.suppress(ProcessLookupError), contextlib.ExitStack() as closing:
            pidfd = os.pidfd_open(pid)
            closing.callback(os.close, pidfd)
            path = cgroupfs.path_of(pid)
            if not path or not source.endswith(path):
                continue
            proc.write(f"{target}/cgroup.procs", str(pid))
            ended, _, _ = select.select([pidfd], [], [], 0)
            if not ended:
                moved.append(pid)
            elif proc.exists(f"/proc/{pid}"):
                proc.write(f"{source}/cgroup.procs", str(pid))
    return moved
