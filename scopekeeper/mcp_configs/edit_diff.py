"""Shows edits of a text as a unified diff for patch(1). Pure.

Only the lines that an edit touches are compared, so a large file costs what its edits cost.
"""

import difflib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from scopekeeper.mcp_configs.document import Edit, apply

_CONTEXT = 3
"""Unchanged lines around each change."""
_NO_FILE = "/dev/null"
_NO_END = "\\ No newline at end of file\n"


@dataclass(frozen=True, slots=True)
class _Change:
    """Lines that are replaced by others."""

    start: int
    """The offset of the first line."""
    end: int
    """The offset past the last line."""
    line: int
    """The number of the first line, from 0."""
    new: list[str]


def unified(
    path: str, text: str, edits: Iterable[Edit], *, is_new: bool = False, is_gone: bool = False
) -> str:
    """Return the diff of a text and the text with all edits; '' if nothing changes.

    A diff with an absolute path needs ``patch -p1 -d /``. is_new, is_gone: the file does not exist
    before, or afterwards.
    """
    name = f"{path}\t" if " " in path else path
    pieces: list[str] = []
    added = 0
    for hunk in _hunks(text, list(_changes(text, edits))):
        lines, added = _hunk(text, hunk, added)
        pieces += lines
    old, new = _NO_FILE if is_new else name, _NO_FILE if is_gone else name
    return "".join([f"--- {old}\n", f"+++ {new}\n", *pieces]) if pieces else ""


def _changes(text: str, edits: Iterable[Edit]) -> Iterator[_Change]:
    """Yield the changed lines in order."""
    line = counted = 0
    for start, end, inside in _blocks(text, edits):
        line += text.count("\n", counted, start)
        counted = start
        old = _lines(text[start:end])
        shifted = [Edit(e.start - start, e.end - start, e.text) for e in inside]
        new = _lines(apply(text[start:end], shifted))
        offsets = [start]
        for each in old:
            offsets.append(offsets[-1] + len(each))
        matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
        for tag, first, last, new_first, new_last in matcher.get_opcodes():
            if tag != "equal":
                yield _Change(offsets[first], offsets[last], line + first, new[new_first:new_last])


def _blocks(text: str, edits: Iterable[Edit]) -> Iterator[tuple[int, int, list[Edit]]]:
    """Yield the offsets of whole lines that edits touch, with these edits."""
    start, end = 0, -1
    inside: list[Edit] = []
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        if edit.start > end:
            if inside:
                yield start, end, inside
            start, inside = text.rfind("\n", 0, edit.start) + 1, []
        if edit.end >= end:  # an edit that ends where a line starts may join that line
            end = text.find("\n", edit.end) + 1 or len(text)
        inside.append(edit)
    if inside:
        yield start, end, inside


def _lines(text: str) -> list[str]:
    """Split after each line feed, as diff and patch do."""
    return list(io.StringIO(text, newline="\n"))


def _hunks(text: str, changes: list[_Change]) -> Iterator[list[_Change]]:
    """Group the changes whose context meets."""
    group: list[_Change] = []
    for change in changes:
        if group and text.count("\n", group[-1].end, change.start) > 2 * _CONTEXT:
            yield group
            group = []
        group.append(change)
    if group:
        yield group


def _hunk(text: str, changes: list[_Change], added: int) -> tuple[list[str], int]:
    """Return the lines of a hunk; added is how many lines earlier hunks have added."""
    before, after = _before(text, changes[0].start), _after(text, changes[-1].end)
    lines = [f" {line}" for line in before]
    first = changes[0].line - len(before)
    at = changes[0].start
    for change in changes:
        lines += [f" {line}" for line in _lines(text[at : change.start])]
        lines += [f"-{line}" for line in _lines(text[change.start : change.end])]
        lines += [f"+{line}" for line in change.new]
        at = change.end
    lines += [f" {line}" for line in after]
    old = sum(line[0] != "+" for line in lines)
    new = sum(line[0] != "-" for line in lines)
    header = f"@@ -{_range(first, old)} +{_range(first + added, new)} @@\n"
    whole = [line if line.endswith("\n") else f"{line}\n{_NO_END}" for line in lines]
    return [header, *whole], added + new - old


def _before(text: str, end: int) -> list[str]:
    start = end
    for _ in range(_CONTEXT):
        if start:
            start = text.rfind("\n", 0, start - 1) + 1
    return _lines(text[start:end])


def _after(text: str, start: int) -> list[str]:
    end = start
    for _ in range(_CONTEXT):
        end = text.find("\n", end) + 1 or len(text)
        if end == len(text):
            break
    return _lines(text[start:end])


def _range(first: int, length: int) -> str:
    """Return a range as diff(1) writes it; first counts from 0."""
    if length == 1:
        return f"{first + 1}"
    return f"{first + 1 if length else first},{length}"
