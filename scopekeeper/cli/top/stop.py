"""Stops what is selected in ``top``: first what would end, then the stop itself.

The scope that was shown is stopped, and no other: one that was replaced meanwhile, or that members
of another owner have joined, is left alone. The stop compares that under the scope's lock.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from scopekeeper.cli import owned
from scopekeeper.cli.outliving import still_run
from scopekeeper.cli.stop_cause import cause_of
from scopekeeper.cli.stop_preview import Preview, preview
from scopekeeper.cli.stop_report import label, sentence
from scopekeeper.cli.top.rows import Shown
from scopekeeper.kernel.mounts import is_within
from scopekeeper.kernel.proc import cgroup_of
from scopekeeper.launch.leave_scope import step_aside
from scopekeeper.lifecycle import stop_launched
from scopekeeper.lifecycle.stop_launched import Part
from scopekeeper.lifecycle.stop_target import target_of
from scopekeeper.safe_text import safe
from scopekeeper.scope.launched import Named
from scopekeeper.scope.model import Member, Owner, Scope, Snapshot
from scopekeeper.scope.selection import Selected, Selector
from scopekeeper.scope.snapshot import Reader

_INSIDE = "top itself runs in it: stop it from elsewhere"
_GONE = "it has ended"
_JOINED = "another gateway has a part in it since; look again"
_TRIES = 5
"""Commands of a busy session can join between a look and the stop."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a stop would do; parts is () if nothing can be stopped."""

    title: str
    lines: tuple[str, ...]
    parts: tuple[Part, ...] = ()
    named: Named = Named((), Selector())  # noqa: RUF009  frozen


def prepare(shown: Shown, mount: str, uid: int | None) -> Prepared:
    """Return what a stop of a row would end, by a look of now; changes nothing."""
    snapshot = Reader(mount).snapshot(uid=uid)
    selected = tuple(_still_there(shown, snapshot))
    if not selected:
        return Prepared(shown.title, (f"{safe(shown.title)}: {_GONE}",))
    named = Named(selected, Selector())
    parts = stop_launched.parts(named, snapshot)
    own = cgroup_of()
    if any(is_within(own, part.target.cgroup) for part in parts):
        return Prepared(shown.title, (f"{safe(shown.title)}: {_INSIDE}",))
    previews = preview(parts)
    lines = [line for each in previews for line in _lines(each)]
    lines += still_run(named.outliving(snapshot), dry_run=True)
    units = {part.selected.scope.unit for part in parts}
    lines += map(safe, owned.due(mount, lambda unit: unit in units).lines)
    ending = [part for part, each in zip(parts, previews, strict=True) if each.outcome != "refuse"]
    return Prepared(shown.title, tuple(lines), tuple(ending), named)


def _still_there(shown: Shown, snapshot: Snapshot) -> list[Selected]:
    """Return what is still the scope or member that was shown: a name proves nothing."""
    now = {scope.directory: scope for scope in snapshot.scopes}
    found = []
    for each in shown.parts:
        scope = now.get(each.scope.directory)
        if scope is None or scope.inode != each.scope.inode:
            continue
        if each.member is None:
            found.append(Selected(scope))
        elif (member := _same(scope, each.member)) is not None:
            found.append(Selected(scope, member))
    return found


def _same(scope: Scope, wanted: Member) -> Member | None:
    found = (each for each in scope.members if each.directory == wanted.directory)
    return next((each for each in found if each.born == wanted.born), None)


def _lines(each: Preview) -> list[str]:
    return each.sentence(label(each.part.selected)).splitlines()


def carry_out(prepared: Prepared, mount: str, uid: int | None) -> list[str]:
    """Stop what was prepared, and return one line for each outcome. Not for the main thread.

    Blocks until it is proved that nothing lives, or what cannot be killed; raises ScopekeeperError
    and OSError.
    """
    warnings: list[str] = []

    def look() -> Snapshot:
        return Reader(mount, unlock=True).snapshot(uid=uid)

    cause = cause_of(Selector(), "")
    lines: list[str] = []
    parts = _as_of_now(prepared.parts, mount, lines)
    for left in range(_TRIES, 0, -1):
        done = stop_launched.stop_all(
            prepared.named, parts, look,
            grace=None, cause=cause, warnings=warnings, step_out=step_aside,
        )  # fmt: skip
        changed = [part for part, result in done if result.outcome == "changed"]
        again = changed if left > 1 else []
        lines += [line for part, result in done if part not in again
                  for line in sentence(part, result).splitlines()]  # fmt: skip
        parts = _as_of_now(again, mount, lines)
        if not parts:
            break
    units = {part.selected.scope.unit for part in prepared.parts}
    paths = owned.release(mount, lambda unit: unit in units)
    others: Sequence[str] = (*paths.lines, *paths.problems, *dict.fromkeys(warnings))
    return [*lines, *map(safe, others)]


def _as_of_now(parts: Sequence[Part], mount: str, lines: list[str]) -> list[Part]:
    """Return the parts with what lives in them now, if nobody else's members have joined them.

    Adds a line for each of the others. The stop compares it again, under the lock of the scope.
    """
    reader, found = Reader(mount, unlock=True), []
    for part in parts:
        before = part.selected
        scope = reader.scope(before.scope.directory)
        name = label(before)
        if scope is None or scope.inode != before.scope.inode:
            lines.append(f"{name}: {_GONE}")
        elif not _owners(scope) <= _owners(before.scope):
            lines.append(f"{name}: left alone: {_JOINED}")
        elif before.member is None:
            found.append(_judged(Selected(scope), part))
        elif (member := _same(scope, before.member)) is not None:
            found.append(_judged(Selected(scope, member), part))
        else:
            lines.append(f"{name}: {_GONE}")
    return found


def _owners(scope: Scope) -> set[Owner | None]:
    states = [each.owner_state for each in scope.present_members]
    return {None if each is None else each.owner for each in states}


def _judged(selected: Selected, part: Part) -> Part:
    return Part(selected, target_of(selected, as_judged=True), part.launched)
