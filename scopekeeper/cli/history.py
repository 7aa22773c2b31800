"""``scopekeeper history``."""

import os
import time
from collections.abc import Callable
from typing import Any

import click

from scopekeeper import state
from scopekeeper.cli import unseen
from scopekeeper.cli.examples import examples
from scopekeeper.cli.moments import briefly, when
from scopekeeper.cli.show import answer, safe_json, table, terminal_width, warn, with_no_trunc
from scopekeeper.cli.table import Column, Fit
from scopekeeper.cli.users import require_root, user, user_fields, with_all_users
from scopekeeper.errors import UsageError
from scopekeeper.history.end import End
from scopekeeper.history.store import HistoryStore
from scopekeeper.kernel.exit_status import signal_name
from scopekeeper.quantities import show_bytes, show_duration, since
from scopekeeper.scope.reason import Reason

COLUMNS = (
    Column("ENDED", need=1),
    Column("SESSION", Fit.MIDDLE, 22),
    Column("LANE", Fit.MIDDLE, 6, need=5),
    Column("RUN", Fit.MIDDLE, 8, need=7),
    Column("MEMBER", Fit.MIDDLE, 8, need=2),
    Column("REASON"),
    Column("STATUS", need=3),
    Column("LASTED", need=4, right=True),
    Column("PEAK", need=8, right=True),
    Column("CPU", need=9, right=True),
    Column("EVIDENCE", Fit.WRAP, 24, need=6),
)
_DEFAULT_LIMIT = 100
_SECONDS = 10.0
"""The longest that reading all users' histories may take."""


@click.command(
    "history",
    epilog=examples(
        "scopekeeper history --since 2h",
        "scopekeeper history -s agent:main:main --reason oom-killed",
    ),
)
@click.option("-s", "--session", metavar="KEY", help="Only this session, by its key or label.")
@click.option("--since", "since_text", metavar="TIME", help="Only ends since this time (2h, ISO "
              "8601, or @SECONDS).")  # fmt: skip
@click.option("--reason", "reason_texts", metavar="REASON", multiple=True,
              help="Only ends for this reason. May be repeated.")  # fmt: skip
@click.option("-n", "--limit", metavar="N", type=click.IntRange(min=1), default=_DEFAULT_LIMIT,
              show_default=True, help="Only the newest N ends.")  # fmt: skip
@with_all_users("The history of every user; root only.")
@click.option("--json", "as_json", is_flag=True, help="Print one versioned JSON object.")
@with_no_trunc
def command(
    session: str | None,
    since_text: str | None,
    reason_texts: tuple[str, ...],
    limit: int,
    all_users: bool,
    as_json: bool,
    no_trunc: bool,
) -> None:
    """List what ended, when, and why; the newest last.

    Reasons: exited, continued, signalled, oom-killed, stopped by request, superseded, owner gone,
    ttl, idle, no output, leader exited, abandoned, escaped, reboot, unknown. A member whose command
    is `scopekeeper run` is continued: its process went on as the member that EVIDENCE names.
    """
    try:
        begin = None if since_text is None else since("since", since_text, time.time())
    except ValueError as error:
        raise UsageError(str(error)) from None
    unseen.collect()
    reasons = [_reason(text) for text in reason_texts]

    def read() -> list[dict[str, Any]]:
        ends = HistoryStore(state.directory()).read(
            session=session,
            since=None if begin is None else int(begin * 1e6),
            reasons=reasons,
            limit=limit,
        )
        return [{"ended": e.ended, "row": _row(e), "document": document(e)} for e in ends]

    found = read_histories(read, all_users=all_users)[-limit:]
    if as_json:
        answer({"ends": [each["document"] for each in found]})
    elif not found:
        click.echo("No ends are recorded.")
    else:
        _print(found, users=all_users, no_trunc=no_trunc)


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


def _print(found: list[dict[str, Any]], *, users: bool, no_trunc: bool) -> None:
    rows = [each["row"] for each in found]
    if terminal_width() is not None and not no_trunc:
        rows = [
            [briefly(each["ended"], seen=each["document"]["seen"]), *each["row"][1:]]
            for each in found
        ]
    table(
        COLUMNS,
        rows,
        users=[each["uid"] for each in found] if users else None,
        whole=no_trunc,
    )


def _row(end: End) -> list[str]:
    return [
        when(end.ended),
        end.shown_session,
        end.lane,
        end.run or "-",
        end.name,
        end.reason.value,
        status(end),
        lasted(end),
        "-" if end.memory_peak is None else show_bytes(end.memory_peak),
        "-" if end.cpu_usec is None else show_duration(end.cpu_usec / 1e6),
        end.evidence or "-",
    ]


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
        "stopper": None
        if end.stopper is None
        else {
            "pid": end.stopper.pid,
            "uid": end.stopper.uid,
            "command": safe_json(end.stopper.command),
        },
    }
