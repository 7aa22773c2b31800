"""What ``why`` and ``top`` show of a member's stderr, where ``run --stderr`` has put it."""

from scopekeeper.errors import ScopekeeperError
from scopekeeper.exec.text import Plain
from scopekeeper.safe_text import safe
from scopekeeper.stderr import files, last_lines

LINES = 10
_LONGEST = 1000
"""Characters of a line."""


def where(leaf: str) -> str:
    """Return "file" or "journal"; '' if it went where the stderr of the caller does."""
    try:
        return files.where(leaf)
    except ScopekeeperError:
        return ""


def stderr_of(leaf: str, *, ask_journal: bool = True) -> list[str]:
    """Return a heading and the last lines, safe to print; [] if there is nothing to show.

    Without ask_journal, the heading alone says how to ask the journal.
    """
    found = where(leaf)
    if found == files.FILE:
        try:
            path = last_lines.path_of(leaf)
            lines = _of_text(last_lines.tail(path))
        except (ScopekeeperError, OSError):
            return []
        return [safe(f"stderr ({path}):"), *lines] if lines else []
    if not found:
        return []
    command = safe(last_lines.journal_command(leaf))
    lines = _of_journal(leaf) if ask_journal else []
    return [f"stderr ({command}):", *lines] if lines else [f"stderr: {command}"]


def _of_text(data: bytes) -> list[str]:
    plain = Plain()
    text = plain.feed(data) + plain.finish(final=True)
    lines = [_shown(line) for line in text.split("\n")]
    return [line for line in lines if line.strip()][-LINES:]


def _of_journal(leaf: str) -> list[str]:
    found = last_lines.of_journal(leaf, LINES)
    return _of_text("\n".join(found).encode("utf-8", "surrogateescape"))


def _shown(line: str) -> str:
    text = safe(line.removesuffix("\r").expandtabs())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
