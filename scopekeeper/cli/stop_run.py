"""Stops what ``stop`` is called with, and prints it; a plain call comes here without click."""

from collections.abc import Callable, Collection, Iterable, Sequence

from scopekeeper.cli import owned
from scopekeeper.cli.colour import say
from scopekeeper.cli.interrupted import Progress, reported
from scopekeeper.cli.outliving import outliving_document, still_run
from scopekeeper.cli.select_options import (
    choose_targets,
    nothing_matched,
    require_target,
    say_missing,
    several,
)
from scopekeeper.cli.show import answer, safe, safe_json, unread_document, warn, warn_unread
from scopekeeper.cli.stop_cause import cause_of, ended_life
from scopekeeper.cli.stop_report import document, label, sentence
from scopekeeper.cli.users import uid_of
from scopekeeper.data import dataclass, replace
from scopekeeper.errors import NOTHING_MATCHED, UsageError
from scopekeeper.kernel.cgroupfs import is_populated
from scopekeeper.kernel.proc import mount_point
from scopekeeper.lifecycle import stop_launched, stop_target
from scopekeeper.quantities import duration
from scopekeeper.scope import names
from scopekeeper.scope.launched import Launched, Named, key_of, kinds_of
from scopekeeper.scope.model import Identity, Snapshot
from scopekeeper.scope.nearby import about
from scopekeeper.scope.reason import Cause
from scopekeeper.scope.selection import Selector
from scopekeeper.scope.snapshot import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from scopekeeper.cli.escaped import Handled

REMAINS = 5
ESCAPED = 6
_COLLECT_SECONDS = 10.0
"""A stop is about one of many scopes, and what else has ended may wait for the next command."""


def execute(
    selector: Selector,
    words: tuple[str, ...],
    *,
    grace: str | None = None,
    note: str = "",
    all_users: bool = False,
    escaped: bool = False,
    dry_run: bool = False,
    must_exist: bool = False,
    as_json: bool = False,
) -> int:
    """Stop what is selected; return the exit status. Raises UsageError for a wrong call."""
    try:
        seconds = None if grace is None else duration("grace", grace) / 1e6
    except ValueError as error:
        raise UsageError(str(error)) from None
    require_target(selector, words)
    uid = uid_of(all_users=all_users)
    given = _Given(selector, words, uid, seconds, escaped, all_users, must_exist, as_json)
    reader = Reader(mount_point(), unlock=not dry_run)
    found = _find(given, reader.snapshot(uid=uid, about=about(words, selector)))
    if dry_run:
        return _preview(given, found)
    cause = cause_of(selector, note)
    with reported() as progress:
        return _stop(given, found, cause, progress)


@dataclass(frozen=True, slots=True)
class _Given:
    """What the call asks for."""

    selector: Selector
    words: tuple[str, ...]
    uid: int | None
    """Of this user only; None for all users."""
    grace: float | None
    escaped: bool
    users: bool
    must_exist: bool
    as_json: bool


@dataclass(frozen=True, slots=True)
class _Found:
    """What it selects."""

    snapshot: Snapshot
    named: Named
    parts: Sequence[stop_launched.Part]
    stay: Sequence[Launched]
    """What was launched from what is named, and was started to outlive it."""
    missing: tuple[str, ...]
    """Words that match nothing that has a scope, and nothing launched that would be stopped."""

    @property
    def unknown(self) -> tuple[str, ...]:
        """The missing words without anything else to report."""
        return self.named.unreached(self.missing, self.stay)


def _find(given: _Given, snapshot: Snapshot) -> _Found:
    """Return what the call selects; raises UsageError for a name of several members."""
    chosen = choose_targets(snapshot, given.words, given.selector, "stop")
    kinds = None
    if given.words:
        kinds = kinds_of(snapshot, given.words, dict(chosen.kinds), given.selector)
    named = Named(chosen.selected, given.selector, kinds)
    if same := named.ambiguous(snapshot):
        raise several(same[0], ", ".join(same[1]), len(same[1]), "stop")
    parts = stop_launched.parts(named, snapshot, given.grace)
    reached = [each.launched for each in parts if each.launched is not None]
    missing = named.unreached(chosen.missing, reached)
    return _Found(snapshot, named, parts, named.outliving(snapshot), missing)


def _preview(given: _Given, found: _Found) -> int:
    """Print what a stop would do; return the exit status."""
    earlier, missing = _left_earlier(given, found)
    from scopekeeper.cli.stop_preview import preview

    mount = mount_point()
    paths = owned.due(mount, _is_of(given, found))
    previews = preview(found.parts)
    say_missing([x for x in missing if x in found.unknown], found.snapshot, all_users=given.users)
    sentences = [x.sentence(label(x.part.selected, users=given.users)) for x in previews]
    said = _Said(sentences, earlier, still_run(found.stay, dry_run=True), paths, missing)
    if given.as_json:
        answer({"dry_run": True, "lines": said.lines(given, found),
                "stopped": [each.document for each in previews],
                "missing": [safe_json(word) for word in missing],
                "escaped": [each.document for each in earlier],
                "outliving": outliving_document(found.stay),
                **unread_document(found.snapshot.unread, mount), **paths.document})  # fmt: skip
    else:
        said.print(given, found)
    return NOTHING_MATCHED if missing or (given.must_exist and not previews) else 0


def _stop(given: _Given, found: _Found, cause: Cause, progress: Progress) -> int:
    """Stop what was found, and print the outcome; return the exit status."""
    warnings, explained = list[str](), set[str]()
    mount = mount_point()
    snapshots = [found.snapshot]
    named = about(given.words, given.selector)
    later = named.later() if named is not None else None

    def look() -> Snapshot:
        snapshots[:] = [Reader(mount, unlock=True).snapshot(uid=given.uid, about=later)]
        return snapshots[0]

    done = stop_launched.stop_all(
        found.named, found.parts, look,
        grace=given.grace, cause=cause, warnings=warnings, step_out=_step_out,
        ends_escaped=given.escaped, explained=explained,
    )  # fmt: skip
    results = [result for _, result in done]
    progress.stopped = results
    known = {each.pid for result in results for each in result.escaped}
    earlier, missing = _left_earlier(
        given, found, known, cause=cause if given.escaped else None, warnings=warnings
    )
    say_missing([x for x in missing if x in found.unknown], found.snapshot, all_users=given.users)
    from scopekeeper.cli import unseen

    problem = unseen.collect(ended_life(cause, given.selector), explained, every=_COLLECT_SECONDS)
    warn([text for text in dict.fromkeys([*warnings, problem]) if text])
    paths = owned.release(mount, _is_of(given, found))
    _forget_what_has_ended(results)
    stay = _outliving(found.named, snapshots[0], [part for part, _ in done])
    sentences = [sentence(*pair, users=given.users) for pair in done]
    said = _Said(sentences, earlier, still_run(stay), paths, missing)
    if given.as_json:
        stopped = [document(*pair) for pair in done]
        answer({"lines": said.lines(given, found), "stopped": stopped,
                "missing": [safe_json(word) for word in missing],
                "escaped": [each.document for each in earlier],
                "outliving": outliving_document(stay),
                **unread_document(found.snapshot.unread, mount), **paths.document})  # fmt: skip
    else:
        said.print(given, found)
    absent = bool(missing) or (given.must_exist and not results)
    live = any(result.escaped for result in results) or not all(x.has_ended for x in earlier)
    return _status(results, absent=absent, failed=paths.failed, escaped=live)


def _step_out() -> None:
    from scopekeeper.launch.leave_scope import step_out  # few stop the scope that they are in

    step_out()


def _forget_what_has_ended(results: Iterable[stop_target.Result]) -> None:
    """Forget what had left the targets and has ended: the monitor of a container does then."""
    for result in results:
        if result.escaped:
            from scopekeeper.lifecycle.escaped import lives

            result.escaped = tuple(filter(lives, result.escaped))


def _outliving(
    named: Named, snapshot: Snapshot, stopped: Iterable[stop_launched.Part]
) -> list[Launched]:
    """Return what still runs, of what was launched from what is named or was stopped with it."""
    keys = [key_of(part.target.directory) for part in stopped if part.target.is_member]
    found = named.outliving(snapshot, keys)
    return [each for each in found if is_populated(each.member.directory)]


def _left_earlier(
    given: _Given,
    found: _Found,
    reported: Collection[int] = (),
    *,
    cause: Cause | None = None,
    warnings: list[str] | None = None,
) -> "tuple[list[Handled], tuple[str, ...]]":
    """Return what had left its scope earlier, and the words that do not match that either.

    The pids in reported are left out: the results of the stop have them. With a cause, ends what
    is proved to be a leftover.
    """
    if not given.escaped and not found.missing and found.parts:
        return [], ()
    from scopekeeper.cli.escaped import left_earlier

    left = left_earlier(
        given.selector, given.words, given.uid,
        cause=cause, warnings=[] if warnings is None else warnings,
    )  # fmt: skip
    left = [each for each in left if each.escaped.pid not in reported]
    unknown = (word for word in found.missing if not any(each.names(word) for each in left))
    return left, tuple(unknown)


@dataclass(frozen=True, slots=True)
class _Said:
    """What is printed of a stop, or of what it would do."""

    sentences: Sequence[str]
    """One for each target."""
    earlier: "Sequence[Handled]"
    stay: Sequence[str]
    paths: owned.OwnedReport
    missing: tuple[str, ...]

    @property
    def _is_nothing(self) -> bool:
        return not (self.sentences or self.earlier or self.stay or self.missing)

    def lines(self, given: _Given, found: _Found) -> list[str]:
        """Return the lines for standard output."""
        texts = [*self.sentences, *(each.sentence for each in self.earlier), *self.stay]
        if self._is_nothing:
            texts = [nothing_matched(given.selector, found.snapshot)]
        texts += map(safe, self.paths.lines)
        return [safe_json(line) for text in texts for line in text.split("\n")]

    def print(self, given: _Given, found: _Found) -> None:
        """Print the lines, and on standard error what failed or could not be read."""
        if lines := self.lines(given, found):
            say("\n".join(lines))
        if self._is_nothing:
            warn_unread(found.snapshot.unread)
        replace(self.paths, lines=()).print()


def _is_of(given: _Given, found: _Found) -> Callable[[str], bool]:
    """Return whether an owned path of a unit goes with this stop."""
    units = {each.selected.scope.unit for each in found.parts}
    return lambda unit: unit in units or _is_named(unit, given.words, given.selector)


def _is_named(unit: str, words: tuple[str, ...], selector: Selector) -> bool:
    """Return whether words or a session mean the scope of this name, which may be gone already."""
    named = names.parse_unit(unit)
    if named is None or not named[3]:
        return False  # no scope's name, or one that was cut: its session is unknown
    if words:
        return unit in words or named[0] in words
    return (
        selector.knows_by_name
        and selector.session is not None
        and selector.matches_identity(Identity(*named[:3]))
    )


def _status(results: list[stop_target.Result], *, absent: bool, failed: bool, escaped: bool) -> int:
    outcomes = {result.outcome for result in results}
    if "remains" in outcomes:
        return REMAINS
    if "refused" in outcomes or failed:
        return 1
    if escaped:
        return ESCAPED
    return NOTHING_MATCHED if absent else 0
