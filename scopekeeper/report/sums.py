"""What sessions and servers have used. Pure."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from scopekeeper.report.model import SERVER, Life

Key = tuple[str, str, str]
"""A host and a user, '' if the page is about one, and the name of a session or a server."""


@dataclass(frozen=True, slots=True)
class Sum:
    """What the members of one session, or of one name, have used together."""

    key: Key
    lives: int
    sessions: int
    """How many they were in."""
    cpu: float | None
    """Seconds; None if it is unknown of all."""
    cpu_unknown: int
    """Of how many it is unknown."""
    memory_peak: int | None
    """The highest of one member in bytes."""
    time: float
    """Seconds that they ran, added up."""


def by_session(lives: Iterable[Life], now: float) -> list[Sum]:
    """Return a sum for each session."""
    return _sums(lives, lambda each: (each.host, each.user, each.session), now)


def by_server(lives: Iterable[Life], now: float) -> list[Sum]:
    """Return a sum for each name of an MCP server."""
    servers = (each for each in lives if each.kind == SERVER)
    return _sums(servers, lambda each: (each.host, each.user, each.member), now)


def most_cpu(sums: Sequence[Sum], count: int) -> list[Sum]:
    """Return those that used most CPU, the first one most."""
    known = [each for each in sums if each.cpu is not None]
    return sorted(known, key=lambda each: (-(each.cpu or 0.0), each.key))[:count]


def most_memory(sums: Sequence[Sum], count: int) -> list[Sum]:
    """Return those with the highest peak of memory, the first one most."""
    known = [each for each in sums if each.memory_peak is not None]
    return sorted(known, key=lambda each: (-(each.memory_peak or 0), each.key))[:count]


def _sums(lives: Iterable[Life], key: Callable[[Life], Key], now: float) -> list[Sum]:
    grouped: dict[Key, list[Life]] = defaultdict(list)
    for life in lives:
        grouped[key(life)].append(life)
    return [_sum(name, each, now) for name, each in grouped.items()]


def _sum(key: Key, lives: Sequence[Life], now: float) -> Sum:
    cpu = [each.cpu for each in lives if each.cpu is not None]
    peaks = [each.memory_peak for each in lives if each.memory_peak is not None]
    return Sum(
        key, len(lives), len({(each.host, each.user, each.session) for each in lives}),
        sum(cpu) if cpu else None, len(lives) - len(cpu), max(peaks, default=None),
        sum(lasted(each, now) or 0.0 for each in lives),
    )  # fmt: skip


def lasted(life: Life, now: float) -> float | None:
    """Return the seconds for which it ran so far; None if its start is unknown."""
    if life.started is None:
        return None
    return max((now if life.ended is None else life.ended) - life.started, 0.0)
