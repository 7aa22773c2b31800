"""Draws trees: which lines lead to a node. Pure."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from scopekeeper.kernel.processes import Process

_Node = TypeVar("_Node")
_LINE = "│  "
_DEEPEST = 20
"""Nodes that are deeper are drawn as if they were that deep: anybody can fork a long chain."""


def drawn(
    roots: Sequence[_Node], below: Callable[[_Node], Sequence[_Node]]
) -> Iterator[tuple[str, _Node]]:
    """Yield each node after its parent, with what stands before it: ``│  └─ ``."""
    waiting = [("", "", node, 0) for node in reversed(roots)]
    while waiting:
        before, then, node, depth = waiting.pop()
        yield before, node
        nodes = below(node)
        if depth > _DEEPEST:
            then = then[: -len(_LINE)]
        for at in range(len(nodes) - 1, -1, -1):
            corner, line = ("└─ ", "   ") if at == len(nodes) - 1 else ("├─ ", _LINE)
            waiting.append((then + corner, then + line, nodes[at], depth + 1))


def families(
    processes: Sequence[Process],
) -> tuple[list[Process], Callable[[Process], Sequence[Process]]]:
    """Return the processes whose parent is not among them, and the function that gives children."""
    known = {each.pid for each in processes}
    children: dict[int, list[Process]] = {}
    roots = []
    for each in processes:
        if each.parent in known and each.parent != each.pid:
            children.setdefault(each.parent, []).append(each)
        else:
            roots.append(each)
    return roots, lambda each: children.get(each.pid, ())
