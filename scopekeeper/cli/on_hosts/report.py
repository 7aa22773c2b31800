"""``scopekeeper report -H``: one page of what ended and what runs on several hosts."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from scopekeeper.cli.on_hosts.call import Plan
from scopekeeper.cli.report import Target, begin_of, target_of, write
from scopekeeper.hosts.answer import BadAnswerError, Fields
from scopekeeper.report.model import REASONS, RUNNING, Life, Outside, Report, Running
from scopekeeper.scope.reason import Reason
from scopekeeper.version import __version__

_MOST_NAMED = 4
_LATEST = 1e11
"""Seconds since the epoch: a day that no clock has, and that a float still has to the second."""


@dataclass(frozen=True, slots=True)
class _Part:
    """What one host adds to the page."""

    lives: tuple[Life, ...] = ()
    running: tuple[Running, ...] = ()
    outside: tuple[Outside, ...] = ()
    notes: tuple[str, ...] = ()
    has_answered: bool = True


def plan(given: Mapping[str, Any]) -> Plan[_Part]:
    """Return what hosts are asked; raises UsageError."""
    file = target_of(given["target"], force=given["force"], as_json=given["as_json"])
    begin = begin_of(given["since_text"])

    def show(found: Mapping[str, _Part]) -> bool:
        if file is not None and any(each.has_answered for each in found.values()):
            _write(file, begin, found, given)
        return True

    return Plan(
        _read, show,
        kept=("target", "since_text", "force"), more=[f"--since=@{begin:.6f}"],
        missing=lambda problem: _Part(notes=(f"no answer: {problem}",), has_answered=False),
    )  # fmt: skip


def _write(
    file: Target, begin: float, found: Mapping[str, _Part], given: Mapping[str, Any]
) -> None:
    """Write the page; a good one of before is not replaced if no host answers."""
    hosts = tuple(found)
    more = [f"{len(hosts) - _MOST_NAMED} more hosts"] if len(hosts) > _MOST_NAMED else []
    each_of = [(host, each) for host, each in found.items()]
    lives = [replace(x, host=host) for host, each in each_of for x in each.lives]
    lives.sort(key=lambda x: float("inf") if x.ended is None else x.ended)
    write(
        file,
        Report(
            ", ".join([*hosts[:_MOST_NAMED], *more]), begin, time.time(), __version__, tuple(lives),
            tuple(replace(x, host=host) for host, each in each_of for x in each.running),
            tuple(replace(x, host=host) for host, each in each_of for x in each.outside),
            tuple(f"{host}: {note}" for host, each in each_of for note in each.notes),
            users=given["all_users"], commands=given["commands"], hosts=hosts,
        ),
    )  # fmt: skip


def _read(document: Fields) -> _Part:
    return _Part(
        tuple(map(_life, document.each("lives"))),
        tuple(map(_running, document.each("running"))),
        tuple(map(_outside, document.each("outside"))),
        tuple(document.texts("notes")),
    )


def _life(each: Fields) -> Life:
    started, ended = _moment(each, "started"), _moment(each, "ended")
    reason = RUNNING if ended is None else each.text("reason")
    if reason not in REASONS or (reason == RUNNING and ended is not None):
        reason = Reason.UNKNOWN.value  # a newer version may have others
    return Life(
        each.text("session"), each.text("lane"), each.text("unit"), each.text("member"), reason,
        started, ended,
        user=each.text("user"),
        kind=each.text("kind"),
        seen=each.flag("seen"),
        status=each.text("status"),
        evidence=each.text("evidence"),
        memory_peak=each.count("memory_peak"),
        cpu=each.number("cpu"),
        command=each.text("command"),
    )  # fmt: skip


def _moment(each: Fields, key: str) -> float | None:
    found = each.number(key)
    if found is not None and not 0 <= found < _LATEST:
        raise BadAnswerError(f"{key!r} in its answer is a time that cannot be")
    return found


def _running(each: Fields) -> Running:
    return Running(
        each.text("session"), each.text("lane"), each.text("unit"), each.text("state"),
        each.text("owner"), each.text("evidence"), each.count("members") or 0,
        each.count("processes") or 0, each.number("age") or 0.0, each.count("memory"),
        each.number("cpu"), each.text("user"),
    )  # fmt: skip


def _outside(each: Fields) -> Outside:
    return Outside(
        each.text("session"), each.text("lane"), each.count("pid") or 0, each.text("program"),
        each.text("evidence"), each.text("user"),
    )  # fmt: skip
