"""How much a keeper holds: the lengths of all its containers, by class and attribute."""

from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

_CONTAINERS = (dict, list, tuple, set, frozenset, deque)


def held(root: object) -> Counter[str]:
    """Return the number of entries below an object of scopekeeper, by ``Class.attribute``."""
    found: Counter[str] = Counter()
    seen: set[int] = set()
    todo: list[tuple[str, Any]] = [(type(root).__name__, root)]
    while todo:
        name, each = todo.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, _CONTAINERS):
            found[name] += len(each)
            todo += ((name, inner) for inner in _inside(each))
        elif type(each).__module__.startswith("scopekeeper"):
            todo += ((f"{type(each).__name__}.{key}", value) for key, value in _attributes(each))
    return found


def _inside(container: Any) -> Iterator[Any]:
    if isinstance(container, dict):
        yield from list(container.keys())
        yield from list(container.values())
    else:
        yield from list(container)


def _attributes(each: Any) -> Iterator[tuple[str, Any]]:
    yield from getattr(each, "__dict__", {}).items()
    for kind in type(each).__mro__:
        for name in getattr(kind, "__slots__", ()):
            if hasattr(each, name):
                yield name, getattr(each, name)
