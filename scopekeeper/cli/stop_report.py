"""What ``stop`` prints of each scope or member: the outcome as a sentence, and as JSON."""

import os

from scopekeeper.cli.show import processes, safe, safe_json
from scopekeeper.cli.users import user, user_fields
from scopekeeper.lifecycle import stop_target
from scopekeeper.lifecycle.stop_launched import Part
from scopekeeper.scope.launched import Launched
from scopekeeper.scope.selection import Selected

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def label(selected: Selected, *, users: bool = False) -> str:
    """Return the name of a scope or member in a sentence; with users, also its user."""
    unit = safe(selected.scope.unit) + (f" of {user(selected.scope.uid)}" if users else "")
    if selected.scope.label:
        unit += f" ({safe(selected.scope.label)})"
    return unit if selected.member is None else f"{unit}: {safe(selected.member.name)}"


def sentence(part: Part, result: stop_target.Result, *, users: bool = False) -> str:
    """Return the outcome in one line, or in several if more is to be said of it."""
    lines = [_outcome(part.selected, result, users=users)]
    if part.launched is not None:
        lines.append(f"  {safe(part.launched.origin)}")
    if result.problem and result.outcome in ("empty", "terminated", "killed"):
        lines.append(f"  {safe(result.problem)}")
    if not (result.escaped or result.ended_escaped):
        return "\n".join(lines)
    from scopekeeper.cli.escaped import ended_too, lives_on

    if result.escaped:
        count = processes(len(result.escaped))
        lines.append(f"  {count} that had left it {'lives' if count[:2] == '1 ' else 'live'} on:")
    lines += [f"  {lives_on(each)}" for each in result.escaped]
    if result.ended_escaped:
        lines.append(f"  {processes(len(result.ended_escaped))} that had left it:")
    lines += [f"  {ended_too(*pair)}" for pair in result.ended_escaped]
    return "\n".join(lines)


def launched_document(launched: Launched | None) -> "dict[str, Any] | None":
    """Return the JSON object of what launched a member; None if the member itself was named."""
    if launched is None:
        return None
    by = launched.launcher
    return {
        "unit": by.unit,
        "session": safe_json(by.identity.session),
        "lane": safe_json(by.identity.lane),
        "run": safe_json(by.identity.run) or None,
        "member": safe_json(by.name),
        "member_id": by.member_id,
        "same_process": launched.goes_on,
    }


def _outcome(selected: Selected, result: stop_target.Result, *, users: bool) -> str:
    name = label(selected, users=users)
    if result.outcome == "refused":
        text = f"{name}: {safe(result.words)}"
        if selected.member is not None and selected.member.problem:
            text += f"; end it with its scope: scopekeeper stop {safe(selected.scope.unit)}"
        elif selected.scope.is_unusable:
            text += f"; end it: {safe(selected.scope.command_to_end(os.getuid()))}"
        return text
    if result.outcome == "empty" and selected.member is not None and selected.member.waits:
        return f"{name}: its place is removed; no process had come"
    if result.outcome != "remains":
        return f"{name}: {safe(result.words)}"
    lines = [f"{name}: {result.words}:"]
    lines += [
        f"  pid {left.pid} in state {left.state}, waiting in {left.wchan}: {safe(left.command)}"
        for left in result.remaining
    ]
    return "\n".join(lines)


def document(part: Part, result: stop_target.Result) -> "dict[str, Any]":
    """Return the JSON object of an outcome."""
    selected = part.selected
    return {
        "unit": selected.scope.unit,
        **user_fields(selected.scope.uid),
        "label": safe_json(selected.scope.label) or None,
        "member": selected.member.name if selected.member else None,
        "member_id": selected.member.member_id if selected.member else None,
        "outcome": result.outcome,
        "terminated": result.terminated,
        "killed": result.killed,
        "processes": result.processes,
        "milliseconds": round(result.milliseconds, 1),
        "problem": result.problem or None,
        "launched_by": launched_document(part.launched),
        "escaped": [
            {
                "pid": each.pid,
                "command": safe_json(each.command),
                "cgroup": safe_json(each.cgroup),
                "uid": each.uid,
                "why_not": each.why_not or None,
            }
            for each in result.escaped
        ],
        "ended_escaped": [
            {
                "pid": each.pid,
                "command": safe_json(each.command),
                "cgroup": safe_json(each.cgroup),
                "uid": each.uid,
                "outcome": outcome,
            }
            for each, outcome in result.ended_escaped
        ],
        "remaining": [
            {"pid": r.pid, "state": r.state, "wchan": r.wchan, "command": r.command}
            for r in result.remaining
        ],
    }
