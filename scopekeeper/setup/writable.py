"""Whether a file can be written, as far as that is known before the attempt."""

import os
from collections.abc import Iterable

from scopekeeper.errors import ConfigError
from scopekeeper.mcp_configs import files


def why_not(paths: Iterable[str]) -> str:
    """Return why one of some paths cannot be written; '' if all can, as far as is known.

    A file that exists is replaced: its folder has to be writable.
    """
    for path in paths:
        folder = os.path.dirname(path)
        while not os.path.lexists(folder):
            folder = os.path.dirname(folder)
        if reason := _refused(folder):
            return f"{folder} {reason}"
    return ""


def why_not_replaced(path: str) -> tuple[str, str]:
    """Return why a configuration cannot be rewritten, and what to do then; '' if it can.

    Raises ConfigError.
    """
    original = files.read(path)
    try:
        files.check(original)
    except ConfigError as error:
        return error.message.removeprefix(f"{path}: "), error.hint
    return "", ""


def _refused(folder: str) -> str:
    if not os.path.isdir(folder):
        return "is no folder"
    if os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        return ""
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return "is on a file system that is mounted read-only"
    return "may not be written"
