"""Finds the name or path by which other programs can start scopekeeper."""

import os
import shutil
import sys

from scopekeeper.errors import UsageError
from scopekeeper.mcp_clients.servers import PROGRAM

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
