"""Edits that add and remove items of a YAML list without brackets. Pure.

Such a list has one item a line, each after a ``-``. What is added before its first item takes the
indentation of that; what is removed leaves every comment.
"""

import re
from collections.abc import Sequence

from scopekeeper.mcp_configs.document import Edit, Pair, Value

_BLANKS = re.compile(r"\s*")
_UNSAFE = re.compile(r"[,\[\]{}:]|^[-?]")
"""What text without quotes may have outside of brackets only."""
_STEP = "  "


def dash(text: str, item: Value) -> int:
    """Return the offset of the ``-`` before an item; -1 if it is on another line."""
    at = item.start - 1
    while at >= 0 and text[at] in " \t":
        at -= 1
    return at if at >= 0 and text[at] == "-" else -1


def is_usual(text: str, array: Value) -> bool:
    """Return whether every item begins on a line of its own."""
    starts = [dash(text, item) for item in array.items]
    return min(starts, default=0) >= 0 and all(not _before(text, at).strip() for at in starts)


def unquoted(text: str, value: Value, key: str) -> str:
    """Return why text without quotes cannot be moved into brackets; '' if it can."""
    raw = text[value.start : value.end]
    if raw[:1] in ("'", '"') or not _UNSAFE.search(raw):
        return ""
    return f"its {key} has to be in quotes, since its args are in brackets"


def prepend(text: str, array: Value, words: Sequence[str]) -> list[Edit]:
    """Add items before the first one."""
    at = dash(text, array.items[0])
    gap, indent = text[at + 1 : array.items[0].start], _before(text, at)
    line_end = _line_end(text, array.items[0].end)
    return [Edit(at, at, "".join(f"-{gap}{word}{line_end}{indent}" for word in words))]


def remove_first(text: str, array: Value, last: int) -> list[Edit]:
    """Remove the items up to index last, which is not the last of all."""
    edits = []
    for item, following in zip(array.items[: last + 1], array.items[1:], strict=False):
        start, end = dash(text, item), dash(text, following)
        if text[item.end : end].strip():
            blanks = _BLANKS.match(text, item.end)
            end = blanks.end() if blanks else item.end
        edits.append(Edit(start, end, ""))
    return edits


def new_member(text: str, command: Pair, key: str, words: Sequence[str]) -> Edit:
    """Add a list after the line of another member of a mapping."""
    mark = text[command.start] if text[command.start] in "\"'" else ""
    indent = " " * len(_before(text, command.start).lstrip("\ufeff"))
    line_end = _line_end(text, command.value.end)
    end = text.find("\n", command.value.end)
    end = len(text) if end < 0 else end - (text[end - 1] == "\r")
    items = "".join(f"{line_end}{indent}{_STEP}- {word}" for word in words)
    return Edit(end, end, f"{line_end}{indent}{mark}{key}{mark}:{items}")


def remove_member(text: str, member: Pair) -> list[Edit]:
    """Remove a line of a mapping with its list, but no comment.

    After a ``-`` there has to be a key: then the list stays, empty.
    """
    array, before = member.value, _before(text, member.start)
    if before.strip():
        return [Edit(member.key_end, array.end, ": []")]
    at, kept = member.key_end, ""
    for item in array.items if array.block else ():
        between = text[at : dash(text, item)].lstrip(":").rstrip()
        kept += between if between.strip() else ""
        at = item.end
    start = member.start - len(before)
    start -= 1 + text[:start].endswith("\r\n") if start else 0
    return [Edit(start, array.end, kept)]


def stays(text: str, member: Pair) -> bool:
    """Return whether ``remove_member`` leaves the key, with an empty list."""
    return bool(_before(text, member.start).strip())


def _before(text: str, at: int) -> str:
    """Return the line of an offset up to there."""
    return text[text.rfind("\n", 0, at) + 1 : at]


def _line_end(text: str, at: int) -> str:
    """Return how the line of an offset ends; if it is the last one, how the line before does."""
    end = text.find("\n", at)
    end = text.rfind("\n", 0, at) if end < 0 else end
    return "\r\n" if end > 0 and text[end - 1] == "\r" else "\n"
