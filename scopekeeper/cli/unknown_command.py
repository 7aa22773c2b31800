"""A command that does not exist, and the one that is probably wanted."""

from collections.abc import Collection, Iterable, Mapping


def error_of(name: str, known: Iterable[str], others: Mapping[str, str]) -> str:
    """Return the error for a name that is not known.

    others has names that are no commands, each with what to use instead.
    """
    return f"No such command {name!r}.{_suggestion(name, known, others)}"


def with_help(text: str, command: str = "scopekeeper") -> str:
    """Return an error of a call, and where the help of the command is, as one line."""
    text = text.rstrip(".")
    see = f"ee `{command} --help`"
    return f"{text} S{see}" if text.endswith("?") else f"{text}; s{see}"


def _suggestion(name: str, known: Iterable[str], others: Mapping[str, str]) -> str:
    near = closest(name.lower(), list(known), others)
    return f" Did you mean {others.get(near, near)!r}?" if near else ""


def closest(word: str, known: Collection[str], others: Iterable[str] = ()) -> str:
    """Return the name most like a word, '' if none is; of two that are as close, a known one.

    It is what difflib.get_close_matches finds, which takes as long to import as the interpreter
    takes to start.
    """
    ranked = ((_likeness(name, word), name in known, name) for name in (*others, *known))
    likeness, _, name = max(ranked, default=(0.0, False, ""))
    return name if likeness >= _CUTOFF else ""


_CUTOFF = 0.6


def _likeness(one: str, other: str) -> float:
    """Return 1 for equal texts, 0 for texts with little in common (Ratcliff/Obershelp)."""
    both = len(one) + len(other)
    if not both:
        return 1.0
    letters = sum(min(one.count(char), other.count(char)) for char in set(one))
    if 2.0 * letters / both < _CUTOFF:  # most names: the rest takes far longer
        return 0.0
    return 2.0 * _common(one, other) / both


def _common(one: str, other: str) -> int:
    """Return the length of the longest common part, and of those before and after it."""
    at, there, size = _longest(one, other)
    if not size:
        return 0
    after = _common(one[at + size :], other[there + size :])
    return size + _common(one[:at], other[:there]) + after


def _longest(one: str, other: str) -> tuple[int, int, int]:
    """Return where the longest common part is in both, and its length: the first of several."""
    for size in range(min(len(one), len(other)), 0, -1):
        for at in range(len(one) - size + 1):
            there = other.find(one[at : at + size])
            if there >= 0:
                return at, there, size
    return 0, 0, 0
