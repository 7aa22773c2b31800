"""``scopekeeper why``."""

import signal
from typing import TYPE_CHECKING, Any

import click

from scopekeeper import state
from scopekeeper.cli import escaped, unseen
from scopekeeper.cli.examples import examples
from scopekeeper.cli.history import document, lasted, read_histories, when
from scopekeeper.cli.show import answer, processes, safe, safe_json
from scopekeeper.cli.still_running import running
from scopekeeper.cli.users import uid_of, user, with_all_users
from scopekeeper.errors import NOTHING_MATCHED, HistoryError
from scopekeeper.history.end import End
from scopekeeper.history.store import HistoryStore
from scopekeeper.quantities import show_bytes, show_duration
from scopekeeper.scope import names
from scopekeeper.scope.reason import Reason

if TYPE_CHECKING:
    from scopekeeper.exec.run import Ended, Run

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
def command(what: str, limit: int, all_users: bool, must_exist: bool, as_json: bool) -> None:
    """Show what ended and why, one sentence for each end, the newest last; then what still runs.

    Also shows what had left its scope and lives on.

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
            ends = [_end_of_run(run, run.ended)]
        return [{"ended": e.ended, "lines": _lines(e), "document": document(e)} for e in ends]

    try:
        ends = read_histories(read, all_users=all_users)[-limit:]
    except HistoryError:
        for each in now:  # needs no history
            click.echo(each.sentence(keeper_runs=keeper_runs), err=as_json)
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
        _print_ends(ends, users=all_users)
        sentences = [each.sentence(keeper_runs=keeper_runs) for each in now]
        sentences += [f"It had left its scope and lives on: {escaped.lives_on(e)}" for e in left]
        sentences += [_pending_sentence(end) for end in pending]
        for text in sentences:
            click.echo(text)
        if unexplained and not pending:
            click.echo(_unexplained_sentence(unexplained))
        if not (ends or now or unexplained or pending or left):
            click.echo(f"Nothing is known of {safe(what)}.")
    something = ends or now or unexplained or pending or left or not must_exist
    raise SystemExit(0 if something else NOTHING_MATCHED)


def _print_ends(ends: list[dict[str, Any]], *, users: bool) -> None:
    for each in ends:
        first, *more = each["lines"]
        click.echo(f"{user(each['uid'])}: {first}" if users else first)
        for line in more:
            click.echo(line)


def _lines(end: End) -> list[str]:
    """Return a sentence on one end, and its last output."""
    return [sentence(end), *(f"    {safe(line)}" for line in _last_output(end))]


def _load_run(what: str) -> "Run | None":
    """Return the run of this id; the history may lack its end."""
    from scopekeeper.exec.run import is_id, load

    return load(what) if is_id(what) else None


def _unexplained(what: str, ends: list[dict[str, Any]]) -> "Run | None":
    """Return the run of this id if no keeper has recorded yet how it ended."""
    run = _load_run(what)
    explained = any(each["document"]["reason"] != Reason.UNKNOWN.value for each in ends)
    return None if run is None or run.ended is not None or explained else run


def _end_of_run(run: "Run", ended: "Ended") -> End:
    """Return the end of a run from the run's own record."""
    leaf = names.parse_leaf(run.leaf)
    return End(
        member_id=leaf[1] if leaf else run.id,
        started=run.joined or run.started,
        ended=ended.at,
        session=run.session,
        lane=run.lane,
        name=run.name,
        reason=Reason.of(ended.reason),
        evidence=ended.evidence,
        run=run.id,
        kind="pty",
        lifetime=run.lifetime,
        exit_status=ended.exit_status,
        signal=ended.signal,
        argv=run.argv,
        boot_id=run.boot_id,
    )


def _subject(end: End) -> str:
    return f"{end.name} ({end.leaf} in {end.session}, lane {end.lane})"


def _pending_sentence(end: End) -> str:
    return safe(
        f"{_subject(end)} has ended; the keeper is finding out how: ask again in a few seconds."
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


def sentence(end: End) -> str:
    """Return one line on one end: time, subject, cause, evidence, and resource usage."""
    text = f"{when(end.ended)}  {_subject(end)} {_cause(end)}, {lasted(end)} after its start"
    if end.evidence and end.evidence not in _evidence_of_cause(end):
        text += f": {end.evidence}"
    used = []
    if end.processes:
        killed = f", {end.killed} of them by SIGKILL" if end.killed else ""
        used.append(f"{processes(end.processes)} ended{killed}")
    if end.memory_peak is not None:
        used.append(f"{show_bytes(end.memory_peak)} of memory at its peak")
    if end.cpu_usec is not None:
        used.append(f"{show_duration(end.cpu_usec / 1e6)} of CPU")
    return safe("; ".join([text, *used]) + ".")


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
    if end.reason is Reason.EXITED:
        return (f"exit status {end.exit_status}",)
    if end.reason is Reason.SIGNALLED and end.signal is not None:
        return (f"killed by {_name(end.signal)}",)
    return ()


def _cause(end: End) -> str:
    if end.reason is Reason.EXITED:
        return "exited" if end.exit_status is None else f"exited with status {end.exit_status}"
    if end.reason is Reason.SIGNALLED:
        return (
            "was ended by a signal" if end.signal is None else f"was ended by {_name(end.signal)}"
        )
    return _CAUSES[end.reason]


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
