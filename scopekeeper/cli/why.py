"""``scopekeeper why``."""

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from scopekeeper import state
from scopekeeper.cli import escaped, unseen
from scopekeeper.cli.account import Account, paragraph
from scopekeeper.cli.ended_runs import end_of
from scopekeeper.cli.examples import examples
from scopekeeper.cli.history import COLUMNS, cells, document, lasted, read_histories, rows_of
from scopekeeper.cli.last_output import last_output
from scopekeeper.cli.list_options import with_where
from scopekeeper.cli.list_view import ListOptions, View
from scopekeeper.cli.moments import when
from scopekeeper.cli.on_hosts.options import with_hosts
from scopekeeper.cli.select_options import with_key_options
from scopekeeper.cli.show import answer, processes, safe, safe_json, terminal_width, with_no_trunc
from scopekeeper.cli.similar import like_selected, like_word
from scopekeeper.cli.stderr_lines import stderr_of
from scopekeeper.cli.still_running import Running
from scopekeeper.cli.users import uid_of, user, with_all_users
from scopekeeper.cli.whole_number import COUNT
from scopekeeper.cli.why_launched import launched_document, launched_sentences
from scopekeeper.cli.why_target import Target
from scopekeeper.errors import NOTHING_MATCHED, HistoryError, UsageError
from scopekeeper.history.end import ENDED_BEFORE, End
from scopekeeper.history.store import HistoryStore
from scopekeeper.kernel import exit_status
from scopekeeper.kernel.exit_status import signal_name
from scopekeeper.kernel.proc import mount_point
from scopekeeper.lifecycle.escaped import Escaped
from scopekeeper.quantities import show_bytes, show_duration
from scopekeeper.scope.launched import Launched
from scopekeeper.scope.reason import Reason
from scopekeeper.scope.selection import Selector
from scopekeeper.scope.snapshot import Reader

if TYPE_CHECKING:
    from scopekeeper.exec.run import Run

_SHOWN, _SHOWN_JSON = 20, 100
_CAUSES = {
    Reason.OOM_KILLED: "was killed because it ran out of memory",
    Reason.STOPPED: "was stopped by request",
    Reason.SUPERSEDED: "was superseded",
    Reason.OWNER_GONE: "was ended because its owner is gone",
    Reason.TTL: "was ended because its time was over",
    Reason.IDLE: "was ended because it was idle",
    Reason.NO_OUTPUT: "was ended because it wrote no output",
    Reason.LEADER_EXITED: "was ended because its command had exited and left processes",
    Reason.ABANDONED: "was ended because nobody could talk to it any more",
    Reason.ESCAPED: "was ended because it had left its scope",
    Reason.REBOOT: "ended when the machine rebooted",
    Reason.UNKNOWN: "ended for an unknown reason",
}

_ASKED = 5
"""Ends for which the journal is asked, the newest: it takes a while for each."""


@click.command(
    "why",
    epilog=examples(
        "scopekeeper why agent:main:main", "scopekeeper why -s agent:main:main -n time --all"
    ),
)
@with_hosts("text")
@click.argument("what", metavar="[SESSION|RUN|SCOPE|MEMBER|SESSION/MEMBER]", required=False)
@with_key_options
@click.option("--limit", metavar="N", type=COUNT, help="Only the newest N ends. "
              f"Default {_SHOWN}, with --json {_SHOWN_JSON}.")  # fmt: skip
@click.option("--all", "every", is_flag=True, help="Every end that the history has.")
@with_all_users("Also what other users run and ran; root only.")
@with_where(COLUMNS)
@click.option("--must-exist", is_flag=True, help="Exit 4 if nothing is known.")
@click.option("--json", "as_json", is_flag=True, help="Print one versioned JSON object.")
@with_no_trunc
def command(
    what: str | None,
    selector: Selector,
    limit: int | None,
    every: bool,
    all_users: bool,
    where: tuple[str, ...],
    must_exist: bool,
    as_json: bool,
    no_trunc: bool,
) -> None:
    """Show what still runs, then what ended and why, one sentence for each end, the newest last.

    Also shows what had left its scope and lives on, and what it launched that runs. On a terminal,
    details are lines below the sentence, and a long name is cut; else each end is one line.

    Give a run's id, a session's key or id, a scope's unit, a member's name, id or leaf, or a
    session and a member's name as SESSION/MEMBER. Options narrow that down, or stand for it.

    With --where, only ends are shown; its fields are the columns of `history`.
    """
    view = ListOptions(where=where).view(COLUMNS)
    target = Target(what or "", selector)
    if not (target.word or target.keys):
        raise UsageError(
            "no target given",
            "name a run, session, scope or member, or give --session or --name; "
            "`scopekeeper history` lists all ends",
        )
    if every and limit is not None:
        raise UsageError("--all and --limit exclude each other", "give one of them")
    shown = None if every else limit or (_SHOWN_JSON if as_json else _SHOWN)
    unseen.collect()

    def look(at: Target) -> _Known:
        return _look(at, shown, view, all_users=all_users, as_json=as_json, whole=no_trunc)

    known = look(target)
    parts = target.parts()
    if not known.something and parts is not None:
        known = look(parts)
    nothing = "" if known.something else _nothing(target, fulfils=bool(where))
    if as_json:
        answer(known.document(nothing, users=all_users))
    else:
        known.print(users=all_users, whole=no_trunc)
        if nothing:
            click.echo(nothing)
    raise SystemExit(0 if known.something or not must_exist else NOTHING_MATCHED)


@dataclass(frozen=True, slots=True)
class _Known:
    """Everything that is known of a target."""

    ends: list[dict[str, Any]]
    now: list[Running]
    pending: list[End]
    left: list[Escaped]
    launched: list[Launched]
    """What runs in other scopes and was launched from the target."""
    unexplained: "Run | None"
    has_more: bool
    """Whether the history has earlier ends."""
    keeper_runs: bool

    @property
    def something(self) -> bool:
        """Whether anything is known."""
        return bool(
            self.ends or self.now or self.pending or self.left or self.launched or self.unexplained
        )

    def document(self, nothing: str, *, users: bool) -> dict[str, Any]:
        """Return its JSON object; nothing is the line for the case that nothing is known."""
        lines = [*self._of_now(None), *self._of_ends(None, users=users), *filter(None, [nothing])]
        return {
            "lines": [safe_json(line) for line in lines],
            "ends": [each["document"] for each in self.ends],
            "running": [each.document for each in self.now],
            "pending": [_pending_document(end) for end in self.pending],
            "escaped": [escaped.Handled(each, "", "").document for each in self.left],
            "launched": [launched_document(each) for each in self.launched],
            "has_more": self.has_more,
        }

    def print(self, *, users: bool, whole: bool) -> None:
        """Print what runs, then what ended, the newest last; whole names where whole is set."""
        width = terminal_width()
        _print(self._of_now(width, whole=whole))
        if self.has_more:
            many = f"newest {len(self.ends)} ends are" if len(self.ends) != 1 else "newest end is"
            text = f"Only the {many} shown; --all shows every one."
            click.echo(text, err=not sys.stdout.isatty())  # a script finds ends alone
        _print(self._of_ends(width, users=users, whole=whole))

    def _of_now(self, width: int | None, *, whole: bool = False) -> Iterator[str]:
        """Yield the lines on what runs; without a width, one for each sentence."""
        yield from _running_lines(self.now, width, keeper_runs=self.keeper_runs, whole=whole)
        for each in self.left:
            text = f"It had left its scope and lives on: {escaped.lives_on(each)}"
            yield from paragraph(text, width)
        for text in launched_sentences(self.launched):
            yield from paragraph(text, width)

    def _of_ends(self, width: int | None, *, users: bool, whole: bool = False) -> Iterator[str]:
        """Yield the lines on what has ended; without a width, one for each sentence."""
        yield from _end_lines(self.ends, width, users=users, whole=whole)
        for end in self.pending:
            yield from paragraph(_pending_sentence(end), width)
        if self.unexplained and not self.pending:
            yield from paragraph(_unexplained_sentence(self.unexplained), width)


def _look(
    target: Target, shown: int | None, view: View, *, all_users: bool, as_json: bool, whole: bool
) -> _Known:
    """Find out everything about a target; raises HistoryError after printing what runs."""
    uid = uid_of(all_users=all_users)
    only_ends = bool(view.conditions)
    now = [] if only_ends else target.running(uid)
    keeper_runs = bool(now) and unseen.keeper_runs()
    pending = [] if only_ends else target.pending()
    left = [] if only_ends else target.escaped(uid)
    launched = [] if only_ends else target.launched(uid)
    limit = None if shown is None or only_ends else shown + 1

    def read() -> list[dict[str, Any]]:
        ends = target.read(HistoryStore(state.directory()), limit)
        run = None if ends or now else _load_run(target.word)
        if run is not None and run.ended is not None:
            ends = [end_of(run, run.ended)]
        newest = ends[-_ASKED:]
        return [
            {
                "ended": end.ended,
                "account": asdict(account(end)),
                "output": last_output(end, ask_journal=end in newest),
                "document": document(end),
                "cells": cells(end),
            }
            for end in ends
        ]

    try:
        rows = view.arranged(rows_of(read_histories(read, all_users=all_users)))
    except HistoryError:
        # needs no history
        running = _running_lines(now, terminal_width(), keeper_runs=keeper_runs, whole=whole)
        _print(running, err=as_json)
        raise
    ends = [row.of for row in rows]
    has_more = shown is not None and len(ends) > shown
    ends = ends if shown is None else ends[-shown:]
    unexplained = None if now or only_ends else _unexplained(target.word, ends)
    return _Known(ends, now, pending, left, launched, unexplained, has_more, keeper_runs)


def _nothing(target: Target, *, fulfils: bool) -> str:
    """Return the line for an unknown target, with similar names; fulfils is for --where."""
    if fulfils:
        return f"No end of {safe(target.shown)} fulfils --where."
    try:
        snapshot = Reader(mount_point()).snapshot(uid=os.getuid())
    except LookupError:
        return f"Nothing is known of {safe(target.shown)}."
    alike = (
        like_word(target.word, snapshot)
        if target.word
        else like_selected(target.selector, snapshot)
    )
    return f"Nothing is known of {safe(target.shown)}{safe(alike) or '.'}"


def _print(lines: Iterable[str], *, err: bool = False) -> None:
    for line in lines:
        click.echo(line, err=err)


def _end_lines(
    ends: list[dict[str, Any]], width: int | None, *, users: bool, whole: bool
) -> Iterator[str]:
    for each in ends:
        values = each["account"]  # a list was a tuple before it crossed processes
        known = Account(**{**values, "details": tuple(values["details"])})
        if users:
            known = replace(known, start=f"{user(each['uid'])}: {known.start}")
        yield from known.lines(width, whole=whole)
        yield from (f"    {safe(line)}" for line in each["output"])


def _running_lines(
    now: list[Running], width: int | None, *, keeper_runs: bool, whole: bool
) -> Iterator[str]:
    for each in now:
        yield from each.account(keeper_runs=keeper_runs).lines(width, whole=whole)
        yield from (f"    {line}" for line in stderr_of(each.member.leaf))


def _load_run(what: str) -> "Run | None":
    """Return the run of this id; the history may lack its end."""
    from scopekeeper.exec.run import is_id, load

    return load(what) if is_id(what) else None


def _unexplained(what: str, ends: list[dict[str, Any]]) -> "Run | None":
    """Return the run of this id if no keeper has recorded yet how it ended."""
    run = _load_run(what)
    explained = any(each["document"]["reason"] != Reason.UNKNOWN.value for each in ends)
    return None if run is None or run.ended is not None or explained else run


def _where(end: End) -> str:
    return f"{end.leaf} in {end.shown_session}, lane {end.lane}"


def _pending_sentence(end: End) -> str:
    return safe(
        f"{end.name} ({_where(end)}) has ended; the keeper is finding out how: ask again in a few "
        "seconds."
    )


def _pending_document(end: End) -> dict[str, object]:
    return {
        "session": safe_json(end.session),
        "label": safe_json(end.label) or None,
        "lane": safe_json(end.lane),
        "unit": end.unit,
        "member": safe_json(end.name),
        "member_id": end.member_id,
    }


def _unexplained_sentence(run: "Run") -> str:
    return safe(
        f"{run.name} (run {run.id} of {run.session}, lane {run.lane}) does not run, and no keeper "
        f"has recorded how it ended: start one with `scopekeeper wait {run.id}`."
    )


def account(end: End) -> Account:
    """Return what is known of one end: time, subject, cause; then evidence and resource usage."""
    said = f"{_cause(end)}, {lasted(end)} after its start"
    details = []
    if (
        end.evidence
        and end.reason is not Reason.CONTINUED
        and end.evidence not in _evidence_of_cause(end)
    ):
        details.append(_with_how_before(end))
    how = "" if ENDED_BEFORE in end.evidence else _how_its_command_ended(end)
    used = [how] if how else []
    if end.processes:
        killed = f", {end.killed} of them by SIGKILL" if end.killed else ""
        used.append(f"{processes(end.processes)} ended{killed}")
    if end.memory_peak is not None:
        used.append(f"{show_bytes(end.memory_peak)} of memory at its peak")
    if end.cpu_usec is not None:
        used.append(f"{show_duration(end.cpu_usec / 1e6)} of CPU")
    if end.scratch_bytes is not None:
        used.append(f"{show_bytes(end.scratch_bytes)} in its scratch folder")
    separator = ": " if details else "; "
    return Account(
        end.name, _where(end), said, (*details, *used), separator, f"{when(end.ended)}  "
    )


def _evidence_of_cause(end: End) -> tuple[str, ...]:
    """Return evidence that only repeats the exit status or signal of the cause."""
    if end.reason not in (Reason.EXITED, Reason.SIGNALLED):
        return ()
    return (exit_status.words(end.exit_status, end.signal),)


def _with_how_before(end: End) -> str:
    """Return the evidence; of a command that had ended before the rest, also how."""
    how = "" if end.reason in (Reason.EXITED, Reason.SIGNALLED) else _by_what(end)
    return end.evidence.replace(ENDED_BEFORE, ENDED_BEFORE + how) if how else end.evidence


def _by_what(end: End) -> str:
    if end.signal is not None:
        return f", by {signal_name(end.signal)}"
    return "" if end.exit_status is None else f", with status {end.exit_status}"


def _how_its_command_ended(end: End) -> str:
    """Return how a member's command ended that something else has ended; '' if unknown.

    A clause of its own: after the evidence it would read as the end of the owner.
    """
    if end.reason in (Reason.EXITED, Reason.SIGNALLED):
        return ""
    if end.signal is not None:
        return f"its command was ended by {signal_name(end.signal)}"
    return "" if end.exit_status is None else f"its command exited with status {end.exit_status}"


def _cause(end: End) -> str:
    if end.reason is Reason.EXITED:
        return "exited" if end.exit_status is None else f"exited with status {end.exit_status}"
    if end.reason is Reason.SIGNALLED:
        return (
            "was ended by a signal"
            if end.signal is None
            else f"was ended by {signal_name(end.signal)}"
        )
    if end.reason is Reason.CONTINUED:
        return f"went on {end.evidence}"
    return _CAUSES[end.reason]
