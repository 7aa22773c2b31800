"""Recognises files in git work trees, and those of a project that a team shares."""

import os
from collections.abc import Mapping
from pathlib import PurePath

from scopekeeper.mcp_configs.formats import found, is_shared_name


def is_shared(path: str, environment: Mapping[str, str]) -> bool:
    """Return whether a file is a project's, inside a git work tree.

    A user's own file is not, even in a home that is a work tree.
    """
    if not is_shared_name(os.path.abspath(path)):
        return False
    if any(_same(path, own) for own, _ in found(environment)):
        return False
    return in_work_tree(path)


def in_work_tree(path: str) -> bool:
    """Return whether a file is in a git work tree, tracked or not."""
    return top_level(os.path.dirname(os.path.abspath(path))) is not None


def top_level(folder: str) -> str | None:
    """Return the folder of the git work tree around a folder; None if it is in none."""
    whole = PurePath(os.path.abspath(folder))
    # a linked work tree or submodule has a file .git
    tops = (each for each in (whole, *whole.parents) if os.path.lexists(each / ".git"))
    return next(map(str, tops), None)


def _same(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False
