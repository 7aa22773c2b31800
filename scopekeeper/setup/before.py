"""What a file was before a change of ``setup``: recorded as facts, and compared by an undo."""

import hashlib
import os
import time

from scopekeeper.errors import ConfigError
from scopekeeper.mcp_configs import backups, files
from scopekeeper.setup.step import Facts


def sum_of(text: str | bytes) -> str:
    """Return the sum of a content."""
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


def facts_of(path: str) -> Facts:
    """Return the sum of a file, '' if it does not exist, its backups and the time.

    Raises ConfigError.
    """
    raw = files.read(path).raw if os.path.lexists(path) else None
    return {
        "before": ["" if raw is None else sum_of(raw)],
        "backups": [] if raw is None else backups_of(path),
        "since": [str(time.time())],
    }


def backups_of(path: str) -> list[str]:
    """Return the backups that a file has; raises ConfigError."""
    try:
        return backups.paths_of(os.path.realpath(path))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None


def drop_backup(path: str, facts: Facts) -> None:
    """Remove the backup of a change that was killed before it was made; raises ConfigError."""
    original = files.read(path)
    is_as_before = facts.get("before") == [sum_of(original.raw)]
    if is_as_before and set(backups_of(path)) - set(facts.get("backups", [])):
        files.drop_backups(original, original.raw)


def is_edited(facts: Facts, now: str) -> bool:
    """Return whether a file differs from what it was before; False if that is not recorded."""
    return facts.get("before", [now]) != [now]


def edited(short: str) -> list[str]:
    """Return what an undo leaves of a file that was edited since."""
    return [f"{short}: what was edited since setup stays"]
