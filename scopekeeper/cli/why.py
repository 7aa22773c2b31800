"""``scopekeeper why``."""

import os
import signal
import time
from typing import TYPE_CHECKING, Any

import click

from scopekeeper import state
from scopekeeper.cli import unseen
from scopekeeper.cli.history import document, lasted, of_users, when
from scopekeeper.cli.show import answer, processes, safe, safe_json
from scopekeeper.cli.stop import NOTHING_MATCHED
from scopekeeper.cli.users import uid_of, user, with_all_users
from scopekeeper.errors import HistoryError
from scopekeeper.history.end import End
from scopekeeper.history.store import HistoryStore
from scopekeeper.kernel.proc import mount_point
from scopekeeper.quantities import show_bytes, show_duration
from scopekeeper.scope import names
from scopekeeper.scope.model import Member, Scope
from scopekeeper.scope.reason import Reason
from scopekeeper.scope.resolve import meanings
from scopekeeper.scope.snapshot import Reader

if TYPE_CHECKING:
    from scopekeeper.exec.run import Ended, Run

_DEFAULT_LIMIT = 100
_SAYS = {
    Reason.OOM_KILLED: "was killed for want of memory",
    Reason.STOPPED: "was stopped by request",
    Reason.SUPERSEDED: "was superseded",
    Reason.OWNER_GONE: "was ended because its owner is gone",
    Reason.TTL: "was ended because its time was over",
    Reason.IDLE: "was ended because it was idle",
    Reason.NO_OUTPUT: "was ended because it gave no output",
    Reason.LEADER_EXITED: "was ended because its command had exited and left processes",
    Reason.REBOOT: "ended when the machine was booted again",
    Reason.UNKNOWN: "ended, and why is unknown",
}

_LINES = 10


@click.command("why")
@click.argument("what", metavar="SESSION|RUN|SCOPE|MEMBER")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), default=_DEFAULT_LIMIT,
              show_default=True, help="So many of the newest ends.")  # fmt: skip
@with_all_users("Of what other users run and ran, too; for root.")
@click.option("--must-exist", is_flag=True, help="Exit 4 where nothing is known.")
@click.option("--json", "as_json", is_flag=True, help="One versioned JSON object.")
def command(what: str, limit: int, all_users: bool, must_exist: bool, as_json: bool) -> None:
    """Tell what ended and why, one sentence for each end, the newest last; then what still runs.

    Give a session or its id, a scope's unit, or a member's name, id or leaf.
    """
    leaf = names.parse_leaf(what)
    about = leaf[1] if leaf else what
    running = _running(what, uid_of(all_users=all_users))
    unseen.collect()
    pending = unseen.pending(about)

    def read() -> list[dict[str, Any]]:
        ends = HistoryStore(state.directory()).read(about=about, limit=limit)
        run = None if ends or running else _run(what)
        if run is not None and run.ended is not None:
            ends = [_end(run, run.ended)]
        return [{"ended": e.ended, "lines": _lines(e), "document": document(e)} for e in ends]

    try:
        ends = of_users(read, all_users=all_users)[-limit:]
    except HistoryError:
        for scope, member in running:  # what runs can be told without a history
            click.echo(_says_running(scope, member), err=as_json)
        raise
    known = None if running else _untold(what, ends)
    if as_json:
        answer({
            "ends": [each["document"] for each in ends],
            "running": [_document(scope, member) for scope, member in running],
            "pending": [_pending_document(end) for end in pending],
        })  # fmt: skip
    else:
        for each in ends:
            first, *more = each["lines"]
            click.echo(f"{each['user']}: {first}" if all_users else first)
            for line in more:
                click.echo(line)
        for scope, member in running:
            click.echo(_says_running(scope, member))
        for end in pending:
            click.echo(_says_pending(end))
        if known and not pending:
            click.echo(_says_unseen(known))
        if not (ends or running or known or pending):
            click.echo(f"Nothing is known of {safe(what)}.")
    something = ends or running or known or pending or not must_exist
    raise SystemExit(0 if something else NOTHING_MATCHED)


def _lines(end: End) -> list[str]:
    """Return a sentence on one end, and the last that it wrote."""
    return [sentence(end), *(f"    {safe(line)}" for line in _last_words(end))]


def _run(what: str) -> "Run | None":
    """Return the run that is meant, of whose end the history may not tell yet."""
    from scopekeeper.exec.run import is_id, load

    return load(what) if is_id(what) else None


def _untold(what: str, ends: list[dict[str, Any]]) -> "Run | None":
    """Return the run that is meant if its keeper has yet to find out how it ended."""
    run = _run(what)
    explained = any(each["document"]["reason"] != Reason.UNKNOWN.value for each in ends)
    return None if run is None or run.ended is not None or explained else run


def _end(known: "Run", ended: "Ended") -> End:
    """Return how a run ended as its own record has it."""
    leaf = names.parse_leaf(known.leaf)
    return End(
        member_id=leaf[1] if leaf else known.id,
        started=known.joined or known.started,
        ended=ended.at,
        session=known.session,
        lane=known.lane,
        name=known.name,
        reason=Reason.of(ended.reason),
        evidence=ended.evidence,
        run=known.id,
        kind="pty",
        lifetime=known.lifetime,
        exit_status=ended.exit_status,
        signal=ended.signal,
        argv=known.argv,
        boot_id=known.boot_id,
    )


def _says_pending(end: End) -> str:
    who = f"{end.name} ({end.leaf} in {end.session}, lane {end.lane})"
    return safe(f"{who} has ended; the keeper is finding out how: ask again in a few seconds.")


def _pending_document(end: End) -> dict[str, object]:
    return {
        "session": safe_json(end.session),
        "lane": safe_json(end.lane),
        "unit": end.unit,
        "member": safe_json(end.name),
        "member_id": end.member_id,
    }


def _says_unseen(known: "Run") -> str:
    who = f"{known.name} (run {known.id} of {known.session}, lane {known.lane})"
    return safe(f"{who} does not run, and no keeper has told how it ended: ask one by "
                f"`scopekeeper wait {known.id}`.")  # fmt: skip


def sentence(end: End) -> str:
    """Return one line on one end: who, when, why, on what evidence, and what it had used."""
    who = f"{end.name} ({end.leaf} in {end.session}, lane {end.lane})"
    text = f"{when(end.ended)}  {who} {_says(end)}, {lasted(end)} after its start"
    if end.evidence and end.evidence not in _said_by_status(end):
        text += f": {end.evidence}"
    used = []
    if end.processes:
        killed = f", {end.killed} of them by SIGKILL" if end.killed else ""
        used.append(f"{processes(end.processes)} ended{killed}")
    if end.memory_peak is not None:
        used.append(f"{show_bytes(end.memory_peak)} of memory at most")
    if end.cpu_usec is not None:
        used.append(f"{show_duration(end.cpu_usec / 1e6)} of CPU")
    return safe("; ".join([text, *used]) + ".")


def _last_words(end: End) -> list[str]:
    """Return the last lines that a run wrote, while its output is kept."""
    if end.kind != "pty" or not end.run:
        return []
    from scopekeeper.exec.run import load

    known = load(end.run)
    output = known.ended.output if known is not None and known.ended is not None else ""
    return ["it wrote last:", *output.splitlines()[-_LINES:]] if output.strip() else []


def _said_by_status(end: End) -> tuple[str, ...]:
    """Return evidence that repeats the exit status or signal, which the sentence has already."""
    if end.reason is Reason.EXITED:
        return (f"exit status {end.exit_status}",)
    if end.reason is Reason.SIGNALLED and end.signal is not None:
        return (f"killed by {_name(end.signal)}",)
    return ()


def _says(end: End) -> str:
    if end.reason is Reason.EXITED:
        return "exited" if end.exit_status is None else f"exited with status {end.exit_status}"
    if end.reason is Reason.SIGNALLED:
        return (
            "was ended by a signal" if end.signal is None else f"was ended by {_name(end.signal)}"
        )
    return _SAYS[end.reason]


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _running(what: str, uid: int | None) -> list[tuple[Scope, Member]]:
    """Return the living members that are meant, the oldest first; none without cgroup2."""
    try:
        snapshot = Reader(mount_point()).snapshot(uid=uid)
    except LookupError:
        return []
    found = {}
    for each in (each for kind in meanings(snapshot, what).values() for each in kind):
        for member in (each.member,) if each.member else each.scope.living_members:
            if member in each.scope.living_members:
                found[member.directory] = (each.scope, member)
    return sorted(found.values(), key=lambda pair: pair[1].born)


def _says_running(scope: Scope, member: Member) -> str:
    of = "" if scope.uid == os.getuid() else f", user {user(scope.uid)}"
    who = f"{member.name} ({member.leaf} in {scope.session}, lane {scope.lane}{of})"
    if not member.started:
        return safe(f"{who} is running.")
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    ago = show_duration(now - member.born / 1e6)
    words = "is being stopped; it has run" if scope.stopping else "is running"
    return safe(f"{who} {words} since {when(member.started)}, for {ago}.")


def _document(scope: Scope, member: Member) -> dict[str, object]:
    return {
        "session": safe_json(scope.session),
        "lane": safe_json(scope.lane),
        "unit": scope.unit,
        "uid": scope.uid,
        "user": user(scope.uid),
        "member": safe_json(member.name),
        "member_id": member.member_id,
        "pid": member.pid,
        "state": member.state,
        "started": member.started / 1e6 if member.started else None,
    }
