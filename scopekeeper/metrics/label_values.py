"""Label values: names that processes chose, escaped, cut and few. Pure.

A time series for each name would let one program fill the memory of a Prometheus.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from scopekeeper.safe_text import safe

Value = TypeVar("Value")

OTHER = "other"
"""The label value of what has no series of its own; nothing else has it."""
LONGEST = 100
"""Characters of a label value that is not cut."""
_MARK = "…"
_DIGITS = 8


def of(name: str) -> str:
    """Return a name as a label value: one line of UTF-8, at most LONGEST characters.

    Of a longer name, the end is a digest of all of it: two names that are cut stay two.
    """
    text = safe(name)
    if len(text) <= LONGEST:
        return text
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    return text[: LONGEST - len(_MARK) - _DIGITS] + _MARK + digest


def most(found: Mapping[str, Value], number: int, weight: Callable[[Value], object]) -> set[str]:
    """Return the label values with a series of their own: the heaviest, ``other`` never."""
    named = sorted(found.keys() - {OTHER})
    named.sort(key=lambda each: weight(found[each]), reverse=True)  # type: ignore[arg-type, return-value]
    return set(named[:number])


def bounded(names: Iterable[str], number: int) -> dict[str, str]:
    """Return the label value of each name: the most frequent have their own, the rest OTHER."""
    counts: dict[str, int] = {}
    named = [(name, of(name)) for name in names]
    for _, value in named:
        counts[value] = counts.get(value, 0) + 1
    shown = most(counts, number, lambda count: count)
    return {name: value if value in shown else OTHER for name, value in named}
