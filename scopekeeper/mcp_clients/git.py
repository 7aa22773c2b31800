"""Recognises files of a project that a team shares through git."""

import os
from collections.abc import Mapping
from pathlib import PurePath

from scopekeeper.mcp_clients.formats import found

_SHARED = frozenset((".mcp.json", ".cursor/mcp.json", ".vscode/mcp.json"))


def is_shared(path: str, environment: Mapping[str, str]) -> bool:
    """Return whether a file is a project's, inside a git work tree.

    A user's own file is not, even in a home that is a work tree.
    """
    whole = PurePath(os.path.abspath(path))
    if not {whole.name, f"{whole.parent.name}/{whole.name}"} & _SHARED:
        return False
    if any(_same(path, own) for own, _ in found(environment)):
        return False
    # a work tree or submodule has a file .git
    return any(os.path.lexists(folder / ".git") for folder in whole.parents)


def _same(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False
