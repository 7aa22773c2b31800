"""The commands of this program that ``top`` starts, and what it shows of their output."""

import os
import shutil
import sys

from scopekeeper.cli.top.rows import Shown
from scopekeeper.safe_text import safe

_ENDS = 5
"""The last ends that are shown beside the processes."""


def attach(run_id: str) -> list[str]:
    """Return the command line that attaches to a run."""
    return [*program(), "attach", run_id]


def why(shown: Shown, *, only_ends: bool) -> list[str]:
    """Return the command line that prints why the last ones in a row ended.

    With only_ends, not what runs in it, and the last few ends alone.
    """
    scope, words = shown.parts[0].scope, named(shown)
    if shown.host:
        words = ["-H", shown.host, *words]
    if only_ends:
        words += ["--limit", str(_ENDS), "--where", "reason!=-"]
    if scope.uid != os.getuid() and not shown.host:
        words.append("--all-users")
    return [*program(), "why", "--must-exist", *words]


def named(shown: Shown) -> list[str]:
    """Return the words by which a command selects what a row shows."""
    scope, member = shown.parts[0].scope, shown.member
    if shown.is_fold:
        return ["--session", scope.session]
    return [scope.unit] if member is None else [member.leaf]


def program() -> list[str]:
    """Return the words that call this program."""
    own = sys.argv[0] if os.path.basename(sys.argv[0]) == "scopekeeper" else ""
    found = shutil.which(own) if own else None
    return [os.path.abspath(found)] if found else [sys.executable, "-m", "scopekeeper"]


def lines(status: int, printed: bytes, problem: bytes) -> list[str]:
    """Return what ``why`` has printed as lines; status is its exit status."""
    found = [safe(line) for line in printed.decode("utf-8", "replace").splitlines()]
    if status == 0 and found:
        return found
    if status in (0, 4):
        return ["the history has no end of it"]
    return [last_words(problem) or f"scopekeeper why exited {status}"]


def last_words(printed: bytes) -> str:
    """Return the last line that a command printed, without the name of this program."""
    found = printed.decode("utf-8", "replace").split("\n")
    lines = [line for line in (safe(each.strip("\r")) for each in found) if line]
    return lines[-1].removeprefix("scopekeeper: ") if lines else ""
