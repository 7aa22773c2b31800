"""What ``top --json`` of another host sent, as rows. Pure; every value is checked."""

from collections.abc import Iterator
from dataclasses import dataclass

from scopekeeper.cli.top.rows import ASKING, NO_SCOPES, Measured
from scopekeeper.hosts.answer import BadAnswerError, Fields
from scopekeeper.quantities import show_bytes
from scopekeeper.scope.model import Member, Scope

_MOST = 10_000
"""Scopes and members of one host."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one host has sent last."""

    scopes: tuple[Measured, ...]
    members: tuple[Measured, ...]
    next_s: float
    """Seconds until it sends the next."""
    load: str
    """Its CPU and memory in words."""
    notes: tuple[str, ...]


def read(host: str, document: Fields) -> Seen:
    """Return what a document has; raises BadAnswerError."""
    scopes: list[Measured] = []
    members: list[Measured] = []
    for each in document.each("scopes"):
        scope, inside = _scope(host, each)
        scopes.append(_measured(host, each, each, scope, None))
        members += (_measured(host, each, x, scope, m) for x, m in inside)
        if len(scopes) + len(members) > _MOST:
            raise BadAnswerError(f"it has more than {_MOST} scopes and members")
    return Seen(
        tuple(scopes), tuple(members), document.number("next_s") or 0.0,
        ", ".join(_load(document)), tuple(document.texts("notes")),
    )  # fmt: skip


def alone(host: str, state: str, problem: str = "") -> Measured:
    """Return what stands for a host without scopes, or without an answer."""
    scope = Scope("", f"{host}:", "", -1, "", "")
    return Measured(scope, None, state, host=host, user="-", owner=problem or "-")


def or_alone(host: str, seen: Seen | None, *, members: bool) -> tuple[Measured, ...]:
    """Return the rows of a host: one at least."""
    if seen is None:
        return (alone(host, ASKING),)
    return (seen.members if members else seen.scopes) or (alone(host, NO_SCOPES),)


def _load(document: Fields) -> Iterator[str]:
    cpu, cpus = document.number("cpu_percent"), document.count("cpus")
    if cpu is not None:
        yield f"CPU {cpu:.0f}% of {cpus or '?'}"
    free, whole = document.number("memory_available"), document.number("memory_total")
    if free is not None and whole is not None:
        yield f"memory {show_bytes(max(whole - free, 0))} of {show_bytes(whole)}"


def _scope(host: str, each: Fields) -> tuple[Scope, list[tuple[Fields, Member]]]:
    directory = f"{host}:{each.text('cgroup')}"
    members = [(x, _member(host, x)) for x in each.each("members")]
    scope = Scope(
        each.text("unit") or "-", directory, each.text("cgroup"), each.count("uid") or 0,
        each.text("session"), each.text("lane"), each.text("run"),
        label=each.text("label"), session_id=each.text("session_id"), kind=each.text("kind"),
        lifetime=each.text("lifetime"), strays=tuple(each.counts("strays")),
        members=tuple(member for _, member in members),
    )  # fmt: skip
    return scope, members


def _member(host: str, each: Fields) -> Member:
    cgroup = each.text("cgroup")
    return Member(
        each.text("name"), each.text("id"), f"{host}:{cgroup}", cgroup, kind=each.text("kind"),
        lifetime=each.text("lifetime"), pids=tuple(each.counts("pids")),
    )  # fmt: skip


def _measured(host: str, scope: Fields, each: Fields, of: Scope, member: Member | None) -> Measured:
    return Measured(
        of, member, each.text("state"), each.count("memory_bytes"), each.count("limit_bytes"),
        each.number("cpu_percent"), each.number("idle_s"), each.number("age_s"), host,
        scope.text("user") or "-", each.text("owner") or "-",
    )  # fmt: skip
