"""``scopekeeper history``."""

import dataclasses
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from scopekeeper import state
from scopekeeper.cli import history_sums, unseen
from scopekeeper.cli.cells import Cell, Unit, duration, number, size, text
from scopekeeper.cli.colour import Paint
from scopekeeper.cli.examples import examples
from scopekeeper.cli.history_sums import KEYS
from scopekeeper.cli.list_options import with_list_options
from scopekeeper.cli.list_view import ListOptions, Row, View
from scopekeeper.cli.moments import briefly, when
from scopekeeper.cli.on_hosts.options import with_hosts
from scopekeeper.cli.show import answer, safe_json, terminal_width, warn
from scopekeeper.cli.table import Column, Fit
from scopekeeper.cli.users import require_root, user, user_fields, with_all_users
from scopekeeper.cli.whole_number import COUNT
from scopekeeper.errors import UsageError
from scopekeeper.history.end import End
from scopekeeper.history.store import HistoryStore
from scopekeeper.kernel.exit_status import signal_name
from scopekeeper.quantities import show_duration, since
from scopekeeper.scope.reason import Reason

REASON_PAINTS: Mapping[str, Paint] = {
    **dict.fromkeys((Reason.OOM_KILLED.value, Reason.SIGNALLED.value), Paint.RED),
    **dict.fromkeys(
        (each.value for each in (Reason.ABANDONED, Reason.ESCAPED, Reason.NO_OUTPUT,
                                 Reason.IDLE, Reason.TTL, Reason.LEADER_EXITED)),
        Paint.YELLOW,
    ),
    **dict.fromkeys((Reason.CONTINUED.value, Reason.UNKNOWN.value), Paint.DIM),
}  # fmt: skip
COLUMNS = (
    Column("USER", extra=True),
    Column("ENDED", need=1, unit=Unit.TIME),
    Column("SESSION", Fit.MIDDLE, 22),
    Column("LANE", Fit.MIDDLE, 6, need=5),
    Column("RUN", Fit.MIDDLE, 9, need=7),
    Column("MEMBER", Fit.MIDDLE, 8, need=2),
    Column("REASON", paints=REASON_PAINTS),
    Column("STATUS", need=3),
    Column("LASTED", need=4, right=True, unit=Unit.DURATION),
    Column("PEAK", need=8, right=True, unit=Unit.SIZE),
    Column("CPU", need=9, right=True, unit=Unit.DURATION),
    Column("EVIDENCE", Fit.WRAP, 24, need=6),
    Column("LABEL", Fit.MIDDLE, 16, extra=True),
    Column("SESSION ID", Fit.MIDDLE, 16, extra=True),
    Column("KIND", extra=True),
    Column("LIFETIME", extra=True),
    Column("OWNER", Fit.END, 12, extra=True),
    Column("UNIT", Fit.MIDDLE, 24, extra=True),
    Column("PROCS", right=True, unit=Unit.NUMBER, extra=True),
    Column("KILLED", right=True, unit=Unit.NUMBER, extra=True),
    Column("SCRATCH", right=True, unit=Unit.SIZE, extra=True),
    Column("COMMAND", Fit.END, 16, extra=True),
)
DEFAULT_LIMIT = 100
_NONE_MATCHES = "No end matches."
_SECONDS = 10.0
"""The longest that reading all users' histories may take."""


@click.command(
    "history",
    epilog=examples(
        "scopekeeper history --since 2h",
        "scopekeeper history -s agent:main:main --reason oom-killed",
        "scopekeeper history --since 1d --by session --sort -cpu",
    ),
)
@with_hosts("history")
@click.option("-s", "--session", metavar="KEY", help="Only this session, by its key or label.")
@click.option("--since", "since_text", metavar="TIME", help="Only ends since this time (2h, ISO "
              "8601, or @SECONDS).")  # fmt: skip
@click.option("--reason", "reason_texts", metavar="REASON", multiple=True,
              help="Only ends for this reason. May be repeated.")  # fmt: skip
@click.option("-n", "--limit", metavar="N", type=COUNT, help="Only the newest N "
              f"ends; with --sort or --by, the first N rows. Default {DEFAULT_LIMIT}, with --by "
              "all.")  # fmt: skip
@click.option("--by", type=click.Choice(tuple(KEYS)), help="Print one row for each session, "
              "lane, name or reason: its ends, their time and CPU, and the highest peak of "
              "memory.")  # fmt: skip
@with_all_users("The history of every user; root only.")
@click.option("--json", "as_json", is_flag=True, help="Print one versioned JSON object.")
@with_list_options(COLUMNS)
def command(
    session: str | None,
    since_text: str | None,
    reason_texts: tuple[str, ...],
    limit: int | None,
    by: str | None,
    all_users: bool,
    as_json: bool,
    options: ListOptions,
) -> None:
    """List what ended, when, and why; the newest last.

    Reasons: exited, continued, signalled, oom-killed, stopped by request, superseded, owner gone,
    ttl, idle, no output, leader exited, abandoned, escaped, reboot, unknown. A member whose command
    is `scopekeeper run` is continued: its process went on as the member that EVIDENCE names.

    With --by, --where selects ends, and --sort and --columns are about the sums. ≥ marks a sum of
    CPU that lacks ends whose CPU nobody saw, ≤ a time in which an end was seen late.
    """
    options.require_rows(as_json)
    try:
        begin = None if since_text is None else since("since", since_text, time.time())
    except ValueError as error:
        raise UsageError(str(error)) from None
    unseen.collect()
    reasons = [_reason(text) for text in reason_texts]

    sums = None
    if by is not None:
        sums = dataclasses.replace(options, where=()).view(history_sums.columns(by))
        options = dataclasses.replace(options, sort=None, columns=None)
    view = options.view(COLUMNS)
    limit = limit or (None if by else DEFAULT_LIMIT)
    newest = None if view.conditions or view.orders or by else limit

    def read() -> list[dict[str, Any]]:
        ends = HistoryStore(state.directory()).read(
            session=session,
            since=None if begin is None else int(begin * 1e6),
            reasons=reasons,
            limit=newest,
        )
        return [{"ended": e.ended, "cells": cells(e), "document": document(e)} for e in ends]

    rows = view.arranged(rows_of(read_histories(read, all_users=all_users)))
    if by is not None and sums is not None:
        documents = [row.of["document"] for row in rows]
        _print_sums(documents, by, sums, limit, as_json=as_json, users=all_users)
        return
    if limit is not None:
        rows = rows[:limit] if view.orders else rows[-limit:]
    if as_json:
        answer({"ends": [row.of["document"] for row in rows]})
    elif not rows:
        is_narrowed = view.conditions or session is not None or begin is not None or reasons
        click.echo(_NONE_MATCHES if is_narrowed else "No ends are recorded.")
    else:
        _print(rows, view, users=all_users)


def rows_of(found: Sequence[dict[str, Any]]) -> list[Row[dict[str, Any]]]:
    """Return the rows of ends that ``read_histories`` returned, each with its "cells"."""
    return [
        Row((text(user(each["uid"])), *(Cell(*cell) for cell in each["cells"])), each)
        for each in found
    ]


def _print_sums(
    ends: Sequence[dict[str, Any]],
    by: str,
    view: View,
    limit: int | None,
    *,
    as_json: bool,
    users: bool,
) -> None:
    groups = history_sums.sums(ends, by)
    rows = view.arranged(history_sums.rows(groups, by))[:limit]
    if as_json:
        answer({"by": by, "groups": [row.of for row in rows]})
    elif rows:
        view.print(rows, also={"USER"} if users else (), total=history_sums.total(ends))
    else:
        click.echo(_NONE_MATCHES)


def read_histories(
    read: Callable[[], list[dict[str, Any]]], *, all_users: bool
) -> list[dict[str, Any]]:
    """Call read as this user, or as every user, and return the ends sorted by time.

    Each end that read returns has "ended" and "document"; this adds "uid". Warns of histories
    that cannot be read. Raises ScopekeeperError.
    """
    own = [(os.getuid(), each) for each in read()]
    if all_users:
        require_root("read the history of other users")
        from scopekeeper import as_user

        for answered in as_user.ask(as_user.users(), read, _SECONDS):
            if answered.problem:
                warn([f"the history of {user(answered.uid)}: {answered.problem}"])
            own += [(answered.uid, each) for each in answered.value or ()]
    for uid, each in own:
        each["uid"] = uid
        each["document"] = {**user_fields(uid), **each["document"]}
    return sorted((each for _, each in own), key=lambda each: each["ended"])


def _reason(text: str) -> Reason:
    """Return the reason of this name; ``owner-gone`` and ``owner gone`` are the same."""
    known = {reason.value.replace("-", " "): reason for reason in Reason}
    try:
        return known[text.replace("-", " ").replace("_", " ").lower()]
    except KeyError:
        raise UsageError(
            f"--reason: there is no reason {text!r}",
            f"give one of: {', '.join(r.value for r in Reason)}",
        ) from None


def _print(rows: list[Row[dict[str, Any]]], view: View, *, users: bool) -> None:
    documents = [row.of["document"] for row in rows]
    if terminal_width() is not None and not view.whole:
        rows = [_brief(row) for row in rows]
    view.print(rows, also={"USER"} if users else (), total=history_sums.total(documents))


def _brief(row: Row[dict[str, Any]]) -> Row[dict[str, Any]]:
    whose, ended, *rest = row.cells
    short = briefly(row.of["ended"], seen=row.of["document"]["seen"])
    return Row((whose, Cell(short, ended.value), *rest), row.of)


def cells(end: End) -> tuple[Cell, ...]:
    """Return the cells of an end, without the first one, its user."""
    return (
        Cell(when(end.ended), end.ended / 1e6),
        text(end.shown_session),
        text(end.lane),
        text(end.run),
        text(end.name),
        text(end.reason.value),
        text(status(end)),
        Cell(lasted(end), (end.ended - end.started) / 1e6 if end.started else None),
        size(end.memory_peak),
        duration(None if end.cpu_usec is None else end.cpu_usec / 1e6),
        text(end.evidence),
        text(end.label),
        text(end.session_id),
        text(end.kind),
        text(end.lifetime),
        text(end.owner),
        text(end.unit),
        number(end.processes),
        number(end.killed),
        size(end.scratch_bytes),
        text(" ".join(end.argv)),
    )


def status(end: End) -> str:
    """Return the exit status or the signal's name; ``-`` if neither is known."""
    if end.signal is not None:
        return signal_name(end.signal)
    return "-" if end.exit_status is None else str(end.exit_status)


def lasted(end: End) -> str:
    """Format how long a member ran; with ``≤`` if nothing saw it end."""
    if not end.started:
        return "?"
    return ("" if end.seen else "≤") + show_duration((end.ended - end.started) / 1e6)


def document(end: End) -> dict[str, Any]:
    """Return the JSON object of an end; times are seconds since the epoch."""
    return {
        "session": safe_json(end.session),
        "label": safe_json(end.label) or None,
        "session_id": safe_json(end.session_id) or None,
        "lane": safe_json(end.lane),
        "run": safe_json(end.run) or None,
        "kind": end.kind or None,
        "lifetime": end.lifetime or None,
        "unit": end.unit,
        "member": safe_json(end.name),
        "member_id": end.member_id,
        "pid": end.pid,
        "argv": [safe_json(word) for word in end.argv] or None,
        "owner": safe_json(end.owner) or None,
        "boot_id": end.boot_id or None,
        "started": end.started / 1e6 if end.started else None,
        "ended": end.ended / 1e6,
        "seen": end.seen,
        "reason": end.reason.value,
        "evidence": safe_json(end.evidence),
        "exit_status": end.exit_status,
        "signal": end.signal,
        "memory_peak": end.memory_peak,
        "cpu_usec": end.cpu_usec,
        "oom_kills": end.oom_kills,
        "processes": end.processes,
        "killed": end.killed,
        "scratch_bytes": end.scratch_bytes,
        "stopper": None
        if end.stopper is None
        else {
            "pid": end.stopper.pid,
            "uid": end.stopper.uid,
            "command": safe_json(end.stopper.command),
        },
    }
