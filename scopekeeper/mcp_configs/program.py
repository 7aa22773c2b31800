"""Finds the name or path by which other programs can start scopekeeper."""

import os
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace

from scopekeeper.errors import UsageError
from scopekeeper.mcp_configs.servers import PROGRAM, ServerState
from scopekeeper.mcp_configs.wrap import WrapOutcome

USUAL_PATH = "/usr/local/bin:/usr/bin:/bin"
"""Folders in every client's PATH; a desktop client lacks the additions of a shell profile."""


def installed() -> tuple[str, str]:
    """Return the launcher as every client finds it (a name or path), and its absolute path.

    Raises UsageError.
    """
    beside = os.path.join(os.path.dirname(sys.executable), PROGRAM)
    called = shutil.which(sys.argv[0]) if os.path.basename(sys.argv[0]) == PROGRAM else None
    in_path = shutil.which(PROGRAM)
    path = called or (beside if os.access(beside, os.X_OK) else in_path)
    if path is None:
        raise UsageError(f"no {PROGRAM} is installed here", "give --program PATH")
    path = os.path.abspath(path)
    # the path in PATH, often a link, outlives updates better than its target
    if in_path and os.path.realpath(in_path) == os.path.realpath(path):
        path = os.path.abspath(in_path)
    usual = shutil.which(PROGRAM, path=USUAL_PATH)
    is_usual = usual is not None and os.path.realpath(usual) == os.path.realpath(path)
    return (PROGRAM, path) if is_usual else (path, path)


def launcher_path() -> str:
    """Return the absolute path of the launcher; if it is not installed, a placeholder."""
    try:
        return installed()[1]
    except UsageError:
        return f"/path/to/{PROGRAM}"


def not_usual() -> str:
    """Return why some clients do not find the launcher by its name; '' if all do."""
    if shutil.which(PROGRAM, path=USUAL_PATH):
        return ""
    return (
        f"{PROGRAM} is not in {USUAL_PATH}: a client that the desktop starts may have no other PATH"
    )


def mark_missing(
    servers: Iterable[WrapOutcome], remedy: Callable[[WrapOutcome], str]
) -> tuple[WrapOutcome, ...]:
    """Mark the servers whose launcher does not exist, and that were not changed."""
    return tuple(
        replace(
            each,
            state=ServerState.NO_LAUNCHER,
            detail=f"there is no {each.program}: {remedy(each)}",
        )
        if each.state is ServerState.WRAPPED and not each.changed and is_missing(each.program)
        else each
        for each in servers
    )


def is_missing(program: str) -> bool:
    """Return whether no client of this user can start a launcher.

    A path that the client expands, or that is relative to a folder of its own, is not judged.
    """
    if "/" in program:
        return os.path.isabs(program) and "$" not in program and not os.access(program, os.X_OK)
    return not any(shutil.which(program, path=path) for path in (None, USUAL_PATH))
