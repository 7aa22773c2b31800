"""Find processes that left their scope; ``ls --escaped`` shows them, ``reconcile`` handles them."""

import os
from collections.abc import Collection

from scopekeeper.cli.cells import Cell, Unit, number, text
from scopekeeper.cli.colour import say
from scopekeeper.cli.list_view import ListOptions, Row
from scopekeeper.cli.show import answer, safe
from scopekeeper.cli.table import Column, Fit
from scopekeeper.cli.users import uid_of, user, user_fields
from scopekeeper.data import dataclass
from scopekeeper.errors import UsageError
from scopekeeper.kernel.proc import mount_point
from scopekeeper.lifecycle import left_earlier as earlier
from scopekeeper.lifecycle.escaped import (
    Escaped,
    end,
    find,
    find_all,
    is_selected,
    living_members,
)
from scopekeeper.scope.reason import Cause
from scopekeeper.scope.selection import Selector
from scopekeeper.scope.snapshot import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from scopekeeper.policy.rules import Policy

COLUMNS = (
    Column("USER", extra=True),
    Column("SESSION", Fit.MIDDLE, 22),
    Column("LANE", Fit.MIDDLE, 6, need=2),
    Column("PID", right=True, unit=Unit.NUMBER),
    Column("MEMBER", need=1),
    Column("CGROUP", Fit.MIDDLE, 20, need=3),
    Column("COMMAND", Fit.END, 16),
)


def show(
    selector: Selector,
    words: Collection[str],
    *,
    as_json: bool,
    all_users: bool,
    options: ListOptions,
) -> None:
    """Print the escaped processes of this user, or of all users as far as they can be read.

    Raises UsageError if they are selected by what is not known of them.
    """
    if not selector.knows_by_name or selector.run is not None:
        raise UsageError(
            "a process that left its scope is only known by its session, lane, scope and leaf",
            "with --escaped, give --session, --lane, or one of these as a word",
        )
    view = options.view(COLUMNS)
    uid = uid_of(all_users=all_users)
    everything = find(Reader(mount_point()).snapshot(uid=uid), uid)
    rows = view.arranged(
        [Row(_cells(each), each) for each in everything if _is_selected(each, selector, words)]
    )
    if as_json:
        answer({"escaped": [Handled(row.of, "", "").document for row in rows]})
    elif rows:
        view.print(rows, also={"USER"} if all_users else ())
    else:
        whose = "" if all_users else " of yours"
        all_of_them = selector == Selector() and not (words or view.conditions)
        which = "" if all_of_them else " that matches"
        say(f"No process{whose}{which} is seen to have left its scope.")


def _cells(each: Escaped) -> tuple[Cell, ...]:
    return (
        text(user(each.uid)),
        text(each.label or each.session),
        text(each.lane),
        number(each.pid),
        text("ended" if each.is_over else "running"),
        text(each.cgroup),
        text(each.command),
    )


def _is_selected(each: Escaped, selector: Selector, words: Collection[str]) -> bool:
    is_named = not words or any(Handled(each, "", "").names(word) for word in words)
    return is_named and is_selected(each, selector)


@dataclass(frozen=True, slots=True)
class Handled:
    """An escaped process, the step that was decided, and its outcome."""

    escaped: Escaped
    step: str
    outcome: str

    @property
    def has_ended(self) -> bool:
        """Whether it was ended."""
        return self.outcome in ("terminated", "killed")

    @property
    def sentence(self) -> str:
        """What became of it, or what can be done."""
        if self.has_ended:
            return ended_too(self.escaped, self.outcome)
        return lives_on(self.escaped)

    def names(self, word: str) -> bool:
        """Return whether a word is its session, scope or leaf."""
        return earlier.is_named(self.escaped, word)

    @property
    def row(self) -> tuple[str, ...]:
        """Its row in the table of ``reconcile``."""
        each = self.escaped
        done = self.outcome or self.step
        session = each.label or each.session
        return session, each.lane, "-", str(each.pid), "escaped", done, each.evidence

    @property
    def document(self) -> "dict[str, Any]":
        """Its JSON object."""
        each = self.escaped
        return {
            **user_fields(each.uid),
            "session": safe(each.session),
            "label": safe(each.label) or None,
            "lane": safe(each.lane),
            "unit": safe(each.scope),
            "cgroup": safe(each.cgroup),
            "member": safe(each.leaf),
            "pid": each.pid,
            "class": "escaped",
            "action": self.step or None,
            "evidence": safe(each.evidence),
            "outcome": self.outcome or None,
            "command": safe(each.command),
            "why_not": safe(each.why_not) or None,
        }


def handle(
    reader: Reader, policy: "Policy", *, dry_run: bool, warnings: list[str]
) -> list[Handled]:
    """Find the escaped processes of this user; end or put back those that the rules say."""
    from scopekeeper.lifecycle.bring_back import bring_back, step
    from scopekeeper.lifecycle.escaped_end import BY_RULE

    uid = os.getuid()
    if not find_all(uid):
        return []
    snapshot = reader.again().snapshot(uid=uid)
    found = find(snapshot, uid)
    steps = {each.pid: step(each, policy) for each in found}
    outcomes: dict[int, str] = {}
    if not dry_run:
        living = living_members(snapshot)
        outcomes = {each.pid: "reported" for each in found}
        outcomes |= end([each for each in found if steps[each.pid] == "stop"], living, uid)
        earlier.record(found, outcomes, BY_RULE, warnings)
        for cgroup in {each.cgroup for each in found if steps[each.pid] == "return"}:
            try:
                brought = bring_back(
                    reader.mount, cgroup, living, lambda each: step(each, policy) == "return"
                )
            except OSError as error:
                warnings.append(f"cannot put back what is in {cgroup}: {error.strerror}")
                continue
            outcomes |= dict.fromkeys(brought.pids if brought else (), "returned")
    return [Handled(each, steps[each.pid], outcomes.get(each.pid, "")) for each in found]


def about(word: str, selector: Selector, uid: int | None) -> list[Escaped]:
    """Return what has left the scopes and members of this session, unit or leaf, and lives.

    Without a word, of the selector's session and lane.
    """
    if not find_all(uid):
        return []
    snapshot = Reader(mount_point()).snapshot(uid=uid)
    words = [word] if word else []
    return [each for each in find(snapshot, uid) if _is_selected(each, selector, words)]


def ended_too(each: Escaped, outcome: str) -> str:
    """Return a sentence about a process that had left its scope, and was ended."""
    return safe(f"pid {each.pid} in {each.cgroup}: {each.command}; {outcome}")


def lives_on(each: Escaped) -> str:
    """Return a sentence about a process that has left its scope, and what can be done."""
    import shlex

    ends = f"scopekeeper stop -s {shlex.quote(each.session)} --escaped ends it"
    return safe(f"pid {each.pid} in {each.cgroup}: {each.command}; {each.why_not or ends}")


def left_earlier(
    selector: Selector,
    words: Collection[str],
    uid: int | None,
    *,
    cause: Cause | None,
    warnings: list[str],
) -> list[Handled]:
    """Find what had left scopes of this session and lane, or of these words, before they ended.

    With a cause, end what is proved to be a leftover, and write that to the history.
    """
    found = earlier.find_left(selector, words, uid)
    outcomes: dict[int, str] = {}
    if cause is not None:
        outcomes = earlier.end_left(found, uid, cause, warnings)
    decided = "report" if cause is None else "stop"
    return [Handled(each, decided, outcomes.get(each.pid, "")) for each in found]
