"""What ``top`` measures: the scopes of the machine, from one look to the next.

Reading 400 scopes in full takes 80 ms of CPU; their counters take 7. So a look reads the counters
of all, and in full only what can have changed: the scopes with an event, those on the
screen, new ones, and a share of the others, in turn.
"""

import contextlib
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from scopekeeper.cli.ages import age_of
from scopekeeper.cli.ends import Ends
from scopekeeper.cli.top.rows import Measured
from scopekeeper.kernel import cgroupfs, proc
from scopekeeper.kernel.unix_sockets import Sockets
from scopekeeper.scope import activity
from scopekeeper.scope.model import Member, Scope, Snapshot
from scopekeeper.scope.search import Search
from scopekeeper.scope.selection import Selector, shows
from scopekeeper.scope.snapshot import Reader

_SHARE = 40
"""Scopes that a look reads in full though nothing hints at a change."""
_SHORTEST = 0.4
"""Seconds between two readings of CPU time that are compared."""
_KEPT_SECONDS = 10.0
"""How long it holds what the policy says of scopes that are kept."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True)
class _Counters:
    """What one cgroup uses, and since when it has done nothing."""

    directory: str
    inode: int = 0
    at: float = 0.0
    cpu: int | None = None
    """Microseconds so far."""
    share: float | None = None
    """Percent of one CPU between the last two looks."""
    memory: int | None = None
    limit: int | None = None
    idle_since: tuple[int, int, int] | None = None

    def look(self, now: int, mark: tuple[int, int, int] | None) -> None:
        """Read CPU time and memory; now is in microseconds of CLOCK_BOOTTIME.

        mark is that of its record, which a keeper may have set long before.
        """
        cpu = cgroupfs.keyed(cgroupfs.read(self.directory, "cpu.stat"), "usage_usec")
        clock = time.monotonic()
        self.memory = number(cgroupfs.read(self.directory, "memory.current"))
        if cpu is None:
            return
        if self.cpu is None:
            self.cpu, self.at = cpu, clock
        elif clock - self.at >= _SHORTEST:
            self.share = max(cpu - self.cpu, 0) / (clock - self.at) / 1e4
            self.cpu, self.at = cpu, clock
        self._note_idle(cpu, mark if mark is not None else self.idle_since, now)

    def _note_idle(self, cpu: int, mark: tuple[int, int, int] | None, now: int) -> None:
        """Keep the mark for as long as the CPU time hardly grows; what it writes is not read."""
        if mark is None or activity.idle_since((cpu, mark[2]), mark, now) is None:
            mark = (now, cpu, 0)
        self.idle_since = mark

    def idle(self, now: int) -> float | None:
        """Return for how many seconds it has done nothing, as far as that was seen."""
        return None if self.idle_since is None else max(now - self.idle_since[0], 0) / 1e6

    def look_at_limit(self) -> None:
        """Read how much memory it may take."""
        names = ("memory.max", "memory.high")
        found = [number(cgroupfs.read(self.directory, name)) for name in names]
        self.limit = min((each for each in found if each is not None), default=None)


class Looks:
    """The scopes that a selector shows, of uid (None: of everybody)."""

    def __init__(
        self, mount: str, uid: int | None, selector: Selector, sockets: Callable[[], Sockets] = dict
    ) -> None:
        self.mount, self.uid = mount, uid
        self._selector = selector
        self._sockets = sockets
        self._reader = Reader(mount, sockets=sockets)
        self._scopes: dict[str, Scope] = {}
        self._counters: dict[str, _Counters] = {}
        self._turn = 0
        self._kept: dict[str, str] = {}
        self._kept_at, self._kept_of = 0.0, frozenset[str]()
        self.unread: tuple[cgroupfs.Unread, ...] = ()
        """What could not be read at the last look."""

    @property
    def now(self) -> int:
        """The time of the last look, in microseconds of CLOCK_BOOTTIME."""
        return self._reader.now

    def whole(self) -> Snapshot:
        """Return the scopes as last read."""
        found = sorted(self._scopes.values(), key=lambda s: (s.session, s.lane, s.run, s.cgroup))
        return Snapshot(tuple(found), self.now)

    def look(self, wanted: Collection[str], *, members: bool) -> list[Scope]:
        """Look at everything; read in full the directories in wanted, and what has come.

        members is whether each member is measured as well. Returns what was read in full.
        """
        search = Search(self.mount, self.uid)
        self._reader = self._reader.again()
        there = dict.fromkeys(search.found)
        for directory in [each for each in self._scopes if each not in there]:
            self._forget(directory)
        due = [each for each in there if each in wanted or each not in self._scopes]
        read = self._read(dict.fromkeys([*due, *self._in_turn(there)]))
        for scope in self._scopes.values():
            self._count(scope, members=members)
        self._forget_ended_members()
        inside = [each for scope in self._scopes.values() for each in scope.unread]
        self.unread = (*search.unread, *inside)
        return read

    def look_at(self, directories: Iterable[str], *, members: bool) -> list[Scope]:
        """Read these scopes in full; those that are gone are forgotten. Returns the others."""
        self._reader = self._reader.again()
        read = self._read(directories)
        for scope in read:
            self._count(scope, members=members)
        return read

    def _in_turn(self, there: Iterable[str]) -> list[str]:
        every = list(there)
        if len(every) <= _SHARE:
            return every
        begin = self._turn % len(every)
        self._turn = begin + _SHARE
        return (every + every)[begin : begin + _SHARE]

    def _read(self, directories: Iterable[str]) -> list[Scope]:
        found = []
        for directory in directories:
            scope = self._reader.scope(directory, self.uid)
            if scope is None or not (self._selector == Selector() or shows(self._selector, scope)):
                self._forget(directory)
                continue
            self._scopes[directory] = scope
            found.append(scope)
            counters = self._counters.get(directory)
            if counters is None or counters.inode != scope.inode:
                counters = self._counters[directory] = _Counters(directory, scope.inode)
            counters.look_at_limit()
        return found

    def _forget(self, directory: str) -> None:
        self._scopes.pop(directory, None)
        self._counters.pop(directory, None)

    def _forget_ended_members(self) -> None:
        known = {each.directory for scope in self._scopes.values() for each in scope.members}
        for directory in self._counters.keys() - known - self._scopes.keys():
            del self._counters[directory]

    def _count(self, scope: Scope, *, members: bool) -> None:
        self._counters[scope.directory].look(self.now, scope.idle_since)
        for member in scope.members if members else ():
            counters = self._counters.get(member.directory)
            if counters is None:
                counters = self._counters[member.directory] = _Counters(member.directory)
                counters.look_at_limit()
            counters.look(self.now, member.idle_since)
            if counters.memory is None:  # its cgroup has a controller only with a limit of its own
                counters.memory = resident(member.pids)

    def measured(self, *, members: bool) -> list[Measured]:
        """Return the scopes, or their living members, in the order of ``ls``."""
        states = self._states()
        scopes = self.whole().scopes
        if members:
            return [self._member(*each) for scope in scopes for each in self._living(scope)]
        return [self._scope(scope, states.get(scope.directory, scope.state)) for scope in scopes]

    def _living(self, scope: Scope) -> Iterator[tuple[Scope, Member]]:
        for member in scope.present_members:
            if not self._selector.is_partial or self._selector.matches_member(member):
                yield scope, member

    def _scope(self, scope: Scope, state: str) -> Measured:
        counters = self._counters[scope.directory]
        age = max(self.now - scope.born, 0) / 1e6 if scope.born else None
        return Measured(
            scope, None, state, counters.memory, counters.limit, counters.share,
            counters.idle(self.now), age,
        )  # fmt: skip

    def _member(self, scope: Scope, member: Member) -> Measured:
        counters = self._counters.get(member.directory) or _Counters(member.directory)
        state = "stopping" if scope.stopping or member.stopping else member.state
        return Measured(
            scope, member, state, counters.memory, counters.limit, counters.share,
            counters.idle(self.now), age_of(member, self.now),
        )  # fmt: skip

    def _states(self) -> dict[str, str]:
        """Return the states of kept scopes: those that a reconcile ends now are orphans."""
        kept = frozenset(key for key, scope in self._scopes.items() if scope.state == "kept")
        is_old = time.monotonic() - self._kept_at > _KEPT_SECONDS
        if kept and (is_old or kept != self._kept_of):
            snapshot = self.whole()
            ends = Ends(snapshot)
            self._kept = {key: ends.state(self._scopes[key]) for key in kept}
            self._kept_at, self._kept_of = time.monotonic(), kept
        return self._kept if kept else {}


def number(text: str | None) -> int | None:
    """Return the number in a file of a cgroup; None for ``max``, and without one."""
    return int(text) if text is not None and text.strip().isdecimal() else None


def resident(pids: Iterable[int]) -> int:
    """Return the memory of these processes that is resident, in bytes; shared pages too."""
    pages = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            stat = proc.stat_of(pid)
            pages += stat.resident_pages if stat is not None else 0
    return pages * _PAGE
