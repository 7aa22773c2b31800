"""What ``ls`` is asked to compare, and cannot know here."""

from collections.abc import Sequence

from scopekeeper.cli.cells import ABSENT
from scopekeeper.cli.list_view import View
from scopekeeper.scope.model import Scope

_MEMORY = "no scope has a MEMORY to compare: their cgroups have no memory controller; {}"


def unknown_memory(view: View, scopes: Sequence[Scope]) -> list[str]:
    """Return a warning if a condition is about memory, and no scope's is known."""
    asked = any(
        view.columns[each.at].name == "memory" and each.wanted not in ABSENT
        for each in view.conditions
    )
    if not (asked and scopes) or any(each.memory_bytes is not None for each in scopes):
        return []
    return [_MEMORY.format("`scopekeeper doctor` shows it, and `ps` has the RSS of processes")]
