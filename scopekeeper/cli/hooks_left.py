"""Finds hooks that are registered: they do nothing once scopekeeper is removed."""

from collections.abc import Sequence
from typing import Any

from scopekeeper.cli.hook_settings import hook_targets
from scopekeeper.cli.show import safe_json
from scopekeeper.mcp_configs.hook_changes import ChangedFile, looked_at

_COMMAND = "scopekeeper unwrap --hooks"


def files_with_hooks() -> list[ChangedFile]:
    """Return the user's files with hooks of scopekeeper."""
    return [each for each in looked_at(hook_targets(None)) if each.is_ours]


def sentences(files: Sequence[ChangedFile]) -> list[str]:
    """Return a sentence for all of them; none if there are none."""
    number = sum(len(_events(each)) for each in files)
    are = "1 hook is" if number == 1 else f"{number} hooks are"
    where = ", ".join(each.file.path for each in files)
    return [f"{are} still registered in {where}; run `{_COMMAND}`"] if files else []


def documents(files: Sequence[ChangedFile]) -> list[dict[str, Any]]:
    """Return the JSON objects of files."""
    return [
        {"path": safe_json(each.file.path), "events": _events(each), "command": _COMMAND}
        for each in files
    ]


def _events(each: ChangedFile) -> list[str]:
    return [outcome.event for outcome in each.outcomes if outcome.program]
