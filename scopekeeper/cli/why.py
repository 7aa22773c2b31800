"""``scopekeeper why``."""

from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import click

from scopekeeper import state
from scopekeeper.cli import escaped, unseen
from scopekeeper.cli.account import Account, paragraph
from scopekeeper.cli.ended_runs import end_of
from scopekeeper.cli.examples import examples
from scopekeeper.cli.history import document, lasted, read_histories, when
from scopekeeper.cli.show import (
    answer,
    processes,
    safe,
    safe_json,
    terminal_width,
    with_no_trunc,
)
from scopekeeper.cli.still_running import Running, running
from scopekeeper.cli.users import uid_of, user, with_all_users
from scopekeeper.errors import NOTHING_MATCHED, HistoryError
from scopekeeper.history.end import End
from scopekeeper.history.store import HistoryStore
from scopekeeper.kernel import exit_status
from scopekeeper.kernel.exit_status import signal_name
from scopekeeper.quantities import show_bytes, show_duration
from scopekeeper.scope import names
from scopekeeper.scope.reason import Reason

if TYPE_CHECKING:
    from scopekeeper.exec.run import Run

_DEFAULT_LIMIT = 100
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

_OUTPUT_LINES = 10


@click.command("why", epilog=examples("scopekeeper why agent:main:main", "scopekeeper why time"))
@click.argument("what", metavar="SESSION|RUN|SCOPE|MEMBER")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), default=_DEFAULT_LIMIT,
              show_default=True, help="Only the newest N ends.")  # fmt: skip
@with_all_users("Also what other users run and ran; root only.")
@click.option("--must-exist", is_flag=True, help="Exit 4 if nothing is known.")
@click.option("--json", "as_json", is_flag=True, help="Print one versioned JSON object.")
@with_no_trunc
def command(
    what: str, limit: int, all_users: bool, must_exist: bool, as_json: bool, no_trunc: bool
) -> None:
    """Show what ended and why, one sentence for each end, the newest last; then what still runs.

    Also shows what had left its scope and lives on. On a terminal, details are lines below the
    sentence, and a long name is cut; else each end is one line.

    Give a run's id, a session's key or id, a scope's unit, or a member's name, id or leaf.
    """
    leaf = names.parse_leaf(what)
    about = leaf[1] if leaf else what
    now = running(what, uid_of(all_users=all_users))
    keeper_runs = bool(now) and unseen.keeper_runs()
    unseen.collect()
    pending = unseen.pending(about)
    left = escaped.about(what, uid_of(all_users=all_users))

    def read() -> list[dict[str, Any]]:
        ends = HistoryStore(state.directory()).read(about=about, limit=limit)
        run = None if ends or now else _load_run(what)
        if run is not None and run.ended is not None:
            ends = [end_of(run, run.ended)]
        return [
            {
                "ended": end.ended,
                "account": asdict(account(end)),
                "output": _last_output(end),
                "document": document(end),
            }
            for end in ends
        ]

    try:
        ends = read_histories(read, all_users=all_users)[-limit:]
    except HistoryError:
        # needs no history
        _print_running(now, keeper_runs=keeper_runs, whole=no_trunc, err=as_json)
        raise
    unexplained = None if now else _unexplained(what, ends)
    if as_json:
        answer({
            "ends": [each["document"] for each in ends],
            "running": [each.document for each in now],
            "pending": [_pending_document(end) for end in pending],
            "escaped": [escaped.Handled(each, "", "").document for each in left],
        })  # fmt: skip
    else:
        _print_ends(ends, users=all_users, whole=no_trunc)
        _print_running(now, keeper_runs=keeper_runs, whole=no_trunc)
        sentences = [f"It had left its scope and lives on: {escaped.lives_on(e)}" for e in left]
        sentences += [_pending_sentence(end) for end in pending]
        if unexplained and not pending:
            sentences.append(_unexplained_sentence(unexplained))
        _print(line for text in sentences for line in paragraph(text, terminal_width()))
        if not (ends or now or unexplained or pending or left):
            click.echo(f"Nothing is known of {safe(what)}.")
    something = ends or now or unexplained or pending or left or not must_exist
    raise SystemExit(0 if something else NOTHING_MATCHED)


def _print(lines: Iterable[str], *, err: bool = False) -> None:
    for line in lines:
        click.echo(line, err=err)


def _print_ends(ends: list[dict[str, Any]], *, users: bool, whole: bool) -> None:
    for each in ends:
        values = each["account"]  # a list was a tuple before it crossed processes
        known = Account(**{**values, "details": tuple(values["details"])})
        if users:
            known = replace(known, start=f"{user(each['uid'])}: {known.start}")
        _print(known.lines(terminal_width(), whole=whole))
        _print(f"    {safe(line)}" for line in each["output"])


def _print_running(
    now: list[Running], *, keeper_runs: bool, whole: bool, err: bool = False
) -> None:
    for each in now:
        runs = each.account(keeper_runs=keeper_runs)
        _print(runs.lines(terminal_width(), whole=whole), err=err)


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
    return f"{end.leaf} in {end.session}, lane {end.lane}"


def _pending_sentence(end: End) -> str:
    return safe(
        f"{end.name} ({_where(end)}) has ended; the keeper is finding out how: ask again in a few "
        "seconds."
    )


def _pending_document(end: End) -> dict[str, object]:
    return {
        "session": safe_json(end.session),
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
    if end.evidence and end.evidence not in _evidence_of_cause(end):
        details.append(end.evidence)
    used = [how] if (how := _how_its_command_ended(end)) else []
    if end.processes:
        killed = f", {end.killed} of them by SIGKILL" if end.killed else ""
        used.append(f"{processes(end.processes)} ended{killed}")
    if end.memory_peak is not None:
        used.append(f"{show_bytes(end.memory_peak)} of memory at its peak")
    if end.cpu_usec is not None:
        used.append(f"{show_duration(end.cpu_usec / 1e6)} of CPU")
    separator = ": " if details else "; "
    return Account(
        end.name, _where(end), said, (*details, *used), separator, f"{when(end.ended)}  "
    )


def _last_output(end: End) -> list[str]:
    """Return the last lines of a run's output, if it is still kept."""
    if end.kind != "pty" or not end.run:
        return []
    from scopekeeper.exec.run import load

    run = load(end.run)
    output = run.ended.output if run is not None and run.ended is not None else ""
    return ["last output:", *output.splitlines()[-_OUTPUT_LINES:]] if output.strip() else []


def _evidence_of_cause(end: End) -> tuple[str, ...]:
    """Return evidence that only repeats the exit status or signal of the cause."""
    if end.reason not in (Reason.EXITED, Reason.SIGNALLED):
        return ()
    return (exit_status.words(end.exit_status, end.signal),)


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
    return _CAUSES[end.reason]
