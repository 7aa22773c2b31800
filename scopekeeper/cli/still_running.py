"""What ``why`` says of members that still run: since when, in what state, who is at their stdin."""

import functools
import os
from dataclasses import dataclass, field

from scopekeeper.cli.account import Account
from scopekeeper.cli.ls_document import owner_document
from scopekeeper.cli.ls_scratch import scratch_fields, scratch_of_members
from scopekeeper.cli.moments import when
from scopekeeper.cli.owner_title import owner_title
from scopekeeper.cli.show import safe_json
from scopekeeper.cli.users import user, user_fields
from scopekeeper.errors import ScopekeeperError
from scopekeeper.kernel import unix_sockets
from scopekeeper.kernel.peers import holders, other_end
from scopekeeper.kernel.proc import boottime, mount_point
from scopekeeper.kernel.usage import describe, name
from scopekeeper.lifecycle.plan import Action, Step, Verdict, plan
from scopekeeper.owned.scratch_sizes import Scratch
from scopekeeper.policy.load import load
from scopekeeper.quantities import show_duration
from scopekeeper.scope.launched import Launcher, launcher, look_up
from scopekeeper.scope.model import Member, Scope, Snapshot
from scopekeeper.scope.nearby import about
from scopekeeper.scope.resolve import meanings
from scopekeeper.scope.selection import Selector, select
from scopekeeper.scope.snapshot import Reader

_MOST_NAMED = 3
"""Processes of a member without its command that a sentence names."""
_SAID_BY_CLIENT = "nobody holds the other end of its stdin"


@dataclass(frozen=True, slots=True)
class Running:
    """A member that runs, and what the policy says of it (None: it cannot be read)."""

    scope: Scope
    member: Member
    action: Action | None = field(default=None, compare=False)
    before: Launcher | None = field(default=None, compare=False)
    """The member that its process was before, if it was one."""
    scratch: Scratch | None = field(default=None, compare=False)

    def account(self, *, keeper_runs: bool) -> Account:
        """Say that it runs, since when, and what becomes of it if that is not plain."""
        scope, member = self.scope, self.member
        owner = "" if scope.uid == os.getuid() else f", user {user(scope.uid)}"
        where = f"{member.leaf} in {scope.shown_session}, lane {scope.lane}{owner}"
        words = "is being stopped; it has run" if scope.stopping else "is running"
        if member.started:
            ago = show_duration((boottime() - member.born) / 1e6)
            words += f" since {when(member.started)}, for {ago}"
        before = f"it went on from {self.before.words}" if self.before else ""
        has = self._scratch()
        parts = (
            before, self._owner(), self._left(), client(member), has, self._becomes(keeper_runs)
        )  # fmt: skip
        return Account(member.name, where, words, tuple(filter(None, parts)))

    def _owner(self) -> str:
        """Name its owner; '' if it has none."""
        state = self.member.owner_state
        title = "-" if state is None else owner_title(state)
        return "" if title == "-" else f"its owner is {title}"

    def _scratch(self) -> str:
        """Name the size of its scratch folder; '' if it has none."""
        if self.scratch is None:
            return ""
        return f"it has {self.scratch.words} in {self.scratch.path}"

    def _left(self) -> str:
        """Name the processes that its command has left."""
        if self.member.leader_lives or not self.member.pids:
            return ""
        pids = self.member.pids
        named = ", ".join(f"{describe(pid)} (pid {pid})" for pid in pids[:_MOST_NAMED])
        more = len(pids) - _MOST_NAMED
        return f"its command has ended and left {named}" + (f" and {more} more" if more > 0 else "")

    def _becomes(self, keeper_runs: bool) -> str:
        """Say what the policy makes of it; '' if it is owned, and nothing else is to be said."""
        action = self.action
        if action is None or action.verdict in (Verdict.OWNED, Verdict.STOPPING):
            return ""
        said = self.member.abandoned or _SAID_BY_CLIENT
        evidence = action.evidence.removeprefix(said).removeprefix("; ")
        if action.verdict is Verdict.LEADERLESS:
            evidence = evidence.partition("; ")[2]
        word = action.verdict.value
        if action.verdict is Verdict.ORPHAN and action.step is not Step.STOP:
            word = self.member.state  # kept, if it was started to outlive its owner
        text = f"{word}: {evidence}" if evidence else word
        if keeper_runs or (action.step is not Step.STOP and action.due is None):
            return text
        who = "`scopekeeper reconcile`" if action.due is None else "a later reconcile"
        return f"{text}; no keeper runs: {who} ends it"

    @property
    def document(self) -> dict[str, object]:
        """Its JSON object."""
        scope, member, action = self.scope, self.member, self.action
        return {
            "session": safe_json(scope.session),
            "label": safe_json(scope.label) or None,
            "lane": safe_json(scope.lane),
            "unit": scope.unit,
            **user_fields(scope.uid),
            "member": safe_json(member.name),
            "member_id": member.member_id,
            "pid": member.pid,
            "pids": list(member.pids),
            "earlier": [safe_json(key) for key in member.earlier],
            "state": member.state,
            "started": member.started / 1e6 if member.started else None,
            "class": action.verdict.value if action else None,
            "action": action.step.value if action else None,
            "evidence": safe_json(action.evidence) if action else None,
            "owner": owner_document(member.owner_state.owner) if member.owner_state else None,
            **scratch_fields(self.scratch),
        }


def running(what: str, selector: Selector, uid: int | None) -> list[Running]:
    """Return the living members that match, the oldest first; none without cgroup2.

    A member also matches by the names of those that its process was before.

    what is a word, '' for none; with it the selector narrows what the word matches.
    """
    try:
        reader = Reader(mount_point(), sockets=functools.cache(unix_sockets.read))
        words = (what,) if what else ()
        snapshot = reader.snapshot(uid=uid, about=about(words, selector, members=True))
    except LookupError:
        return []
    found = {}
    matched = [each for kind in meanings(snapshot, what).values() for each in kind]
    for each in matched if what else select(snapshot, selector):
        if selector != Selector() and not selector.matches_scope(each.scope):
            continue
        for member in (each.member,) if each.member else each.scope.living_members:
            if member in each.scope.living_members and selector.matches_member(member):
                found[member.directory] = (each.scope, member)
    before = {}
    named, _ = look_up(snapshot, words, selector)
    for went_on in (x for x in named.launched(snapshot) if x.goes_on and x.member.lives):
        before[went_on.member.directory] = went_on.launcher
        found[went_on.member.directory] = (went_on.scope, went_on.member)
    planned = _planned(snapshot) if found else {}
    pairs = sorted(found.values(), key=lambda pair: pair[1].born)
    scratch = scratch_of_members({member.cgroup for _, member in pairs}) if pairs else {}
    return [
        Running(
            scope,
            member,
            planned.get(member.directory) or planned.get(scope.directory),
            before.get(member.directory) or _before(member),
            scratch.get(member.cgroup),
        )
        for scope, member in pairs
    ]


def _before(member: Member) -> Launcher | None:
    return next(filter(None, map(launcher, reversed(member.earlier))), None)


def _planned(snapshot: Snapshot) -> dict[str, Action]:
    """Return the action for each scope and member of ours, by its directory."""
    own = os.getuid()
    try:
        actions = plan(snapshot, load())
    except ScopekeeperError:
        return {}  # another command reports it
    return {
        (each.member or each.scope).directory: each for each in actions if each.scope.uid == own
    }


def client(member: Member) -> str:
    """Return who is at the other end of a server's standard input, as far as that can be seen.

    Where nobody is, also who reads its output, if that is why it does not count as abandoned.
    """
    end = other_end(member.pid, 0) if member.pid and member.leader_lives else None
    if end is None:
        return ""
    if end.is_held:
        found = _holders(member, 0)
        return f"the other end of its stdin is held by {found}" if found else ""
    if member.abandoned:
        return member.abandoned
    out = _holders(member, 1)
    return _SAID_BY_CLIENT + (f", but that of its stdout is held by {out}" if out else "")


def _holders(member: Member, fd: int) -> str:
    end = other_end(member.pid, fd) if member.pid else None
    found = holders(end, member.pids) if end is not None and end.is_held else ()
    return ", ".join(f"{name(pid)} (pid {pid})" for pid in found)
