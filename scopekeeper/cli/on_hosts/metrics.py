"""``scopekeeper metrics -H``: the metrics of all hosts, each with the label ``host``."""

from collections.abc import Mapping
from typing import Any

from scopekeeper.cli.metrics import publisher
from scopekeeper.cli.on_hosts.call import Plan
from scopekeeper.hosts.answer import BadAnswerError, Fields
from scopekeeper.metrics import label_values
from scopekeeper.metrics.facts import RESOURCES, Facts, HostFacts, Session

_MOST = 5_000
"""Series of one metric and user, beside those of sessions: more than lanes, kinds and states."""


def plan(given: Mapping[str, Any]) -> Plan[HostFacts | None]:
    """Return what hosts are asked; raises UsageError."""
    publish = publisher(given["form"], given["textfile"], as_json=given["as_json"])

    def show(found: Mapping[str, HostFacts | None]) -> bool:
        publish(lambda exposition, form: exposition.write_hosts(found, form))
        return True

    return Plan(
        lambda document: _read(document, given["sessions"]), show,
        kept=("form", "textfile"), missing=lambda _: None,
    )  # fmt: skip


def _read(document: Fields, sessions: int) -> HostFacts:
    users = [_facts(each, sessions + 1) for each in document.each("users")]
    if len({each.user for each in users}) < len(users):
        raise BadAnswerError("its answer has a user twice")
    return HostFacts(label_values.of(document.text("scopekeeper")), users)


def _facts(each: Fields, sessions: int) -> Facts:
    scopes = {
        (_label(x, "lane"), _label(x, "kind"), _label(x, "state")): x.count("count") or 0
        for x in each.each("scopes")
    }
    inside = each.below("sessions")
    names = {} if inside is None else inside.values
    found = {label_values.of(name): _session(inside.below(name)) for name in names if inside}
    if len(scopes) > _MOST or len(found) > sessions:
        raise BadAnswerError("its answer has more series than it was asked for")
    return Facts(
        user=_label(each, "user"),
        scopes=[(*key, number) for key, number in scopes.items()],
        members=_by_label(each, "members"),
        sessions=found,
        escaped=each.count("escaped") or 0,
        unread=each.count("unread") or 0,
        ends=None if each.values.get("ends") is None else _by_label(each, "ends"),
        failed=_by_label(each, "failed"),
        keeper_runs=each.flag("keeper_runs"),
    )


def _session(each: Fields | None) -> Session:
    if each is None:
        raise BadAnswerError("a session in its answer is not an object")
    pressure = each.numbers("pressure")
    return Session(
        each.count("processes") or 0,
        each.count("memory_bytes"),
        each.number("cpu_seconds"),
        {name: pressure[name] for name in RESOURCES if name in pressure},
    )


def _label(each: Fields, key: str) -> str:
    return label_values.of(each.text(key))


def _by_label(each: Fields, key: str) -> dict[str, int]:
    found = {label_values.of(name): int(value) for name, value in each.numbers(key).items()}
    if len(found) > _MOST:
        raise BadAnswerError("its answer has more series than it was asked for")
    return found
