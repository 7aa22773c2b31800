"""Puts a key into a JSON text, or takes it out, and changes nothing else. Pure.

A new key goes to the start of its object, where nothing before it needs a comma, in the style of
its neighbours. ``take`` restores the text from before ``put``, and removes the objects that ``put``
had to add.
"""

import json
import re

from scopekeeper.mcp_configs import json5
from scopekeeper.mcp_configs.document import Edit, Pair, ParseError, Value, apply, position
from scopekeeper.mcp_configs.json5 import Dialect
from scopekeeper.mcp_configs.text_edit import remove_member

_REST_OF_LINE = re.compile(r"[ \t]*(?://[^\n\r]*)?(?=\r?\n)")
_LINE_END = re.compile(r"\r?\n")
_DEFAULT_INDENT = "  "


def put(text: str, dialect: Dialect, path: tuple[str, ...], value: object) -> str:
    """Return the text with a value under a path of keys; raises ParseError.

    value consists of dict, str and bool. It replaces a value that is there already.
    """
    root = json5.parse(text, dialect)
    here, depth = _reach(text, root, path)
    if depth == len(path):
        if here.data == value:
            return text
        written = Style(text, here).write(value, inline=False)
        return apply(text, [Edit(here.start, here.end, written)])
    for key in reversed(path[depth + 1 :]):
        value = {key: value}
    return apply(text, [_insert(text, here, path[depth], value)])


def take(text: str, dialect: Dialect, path: tuple[str, ...]) -> str:
    """Return the text without a path of keys, and without the objects that only lead to it."""
    root = json5.parse(text, dialect)
    here, depth = _reach(text, root, path)
    if depth < len(path):
        return text
    value: object = here.data
    for depth in range(len(path)):
        container, _ = _reach(text, root, path[:depth])
        member = member_of(container, path[depth])
        if member is None or not _holds_only(member.value, path[depth + 1 :]):
            continue
        before = _without(text, container, member)
        if before is not None and _leads_to(text, before, dialect, path, value):
            return before
    container, _ = _reach(text, root, path[:-1])
    member = member_of(container, path[-1])
    assert member is not None  # noqa: S101  it was reached above
    return apply(text, remove_member(text, container.members, member))


def _leads_to(
    text: str, before: str, dialect: Dialect, path: tuple[str, ...], value: object
) -> bool:
    try:
        return put(before, dialect, path, value) == text
    except ParseError:  # a comment swallowed the text after it
        return False


def include(text: str, dialect: Dialect, path: tuple[str, ...], item: str) -> str:
    """Return the text with an item added to the array under a path, if that has items."""
    here, depth = _reach(text, json5.parse(text, dialect), path, any_end=True)
    if depth < len(path) or not isinstance(here.data, list) or not here.items or item in here.data:
        return text
    first = here.items[0].start
    between = text[here.start + 1 : first]
    blank = between if "\n" in between and not between.strip() else " "
    return apply(text, [Edit(first, first, f"{json.dumps(item)},{blank}")])


def exclude(text: str, dialect: Dialect, path: tuple[str, ...], item: str) -> str:
    """Return the text without an item in the array under a path."""
    here, depth = _reach(text, json5.parse(text, dialect), path, any_end=True)
    if depth < len(path) or not isinstance(here.data, list) or item not in here.data:
        return text
    return apply(text, without_item(text, here, here.data.index(item)))


def without_item(text: str, array: Value, number: int) -> list[Edit]:
    """Remove an item of an array and its comma, but no comment."""
    value, comma = array.items[number], array.commas[number]
    if (
        number + 1 < len(array.items)
        and not text[comma + 1 : array.items[number + 1].start].strip()
    ):
        return [Edit(value.start, array.items[number + 1].start, "")]
    edits = [Edit(value.start, value.end, "")]
    if comma < 0 and number:
        comma = array.commas[number - 1]
    if comma >= 0:
        edits.append(Edit(comma, comma + 1, ""))
    return edits


def _reach(
    text: str, root: Value, path: tuple[str, ...], *, any_end: bool = False
) -> tuple[Value, int]:
    """Follow a path as far as it exists; return the last value, and how many keys matched.

    Raises ParseError if a value on the way is not an object, or the last one, unless any_end.
    """
    here = root
    for depth, key in enumerate(path):
        if not isinstance(here.data, dict):
            where = position(text, here.start, "\n\r")
            raise ParseError(f"{'.'.join(path[:depth]) or 'the whole'} is not an object", *where)
        member = member_of(here, key)
        if member is None:
            return here, depth
        here = member.value
    if not (any_end or isinstance(here.data, dict)):
        where = position(text, here.start, "\n\r")
        raise ParseError(f"{'.'.join(path) or 'the whole'} is not an object", *where)
    return here, len(path)


def member_of(container: Value, key: str) -> Pair | None:
    """Return the member of an object with a key; None if there is none."""
    return next((member for member in container.members if member.key[0] == key), None)


def _holds_only(value: Value, path: tuple[str, ...]) -> bool:
    """Return whether an object has nothing but this path."""
    for key in path:
        if len(value.members) != 1 or value.members[0].key[0] != key:
            return False
        value = value.members[0].value
    return True


class Style:
    """The line ends and indentation to write a value with."""

    def __init__(self, text: str, container: Value) -> None:
        line_end = _LINE_END.search(text)
        self.line_end = line_end.group() if line_end else "\n"
        self.step = _DEFAULT_INDENT
        root = re.search(r"\{[ \t]*(?://[^\n\r]*)?\r?\n([ \t]+)\S", text)
        if root:
            self.step = root.group(1)
        line = text[text.rfind("\n", 0, container.start) + 1 : container.start]
        self.outer = line[: len(line) - len(line.lstrip(" \t"))]
        first = container.members[0].start if container.members else container.end - 1
        inside = text[container.start + 1 : first]
        self.inline = "\n" not in (inside if container.members else text)
        self.indent = self.outer + self.step
        if container.members and not self.inline:
            indent = inside[inside.rfind("\n") + 1 :]
            if not indent.strip(" \t"):
                self.indent = indent

    def write(self, value: object, *, inline: bool) -> str:
        """Format a value whose key has the indentation of this container."""
        if inline:
            return json.dumps(value, ensure_ascii=False)
        lines = json.dumps(value, ensure_ascii=False, indent=self.step).split("\n")
        return (self.line_end + self.indent).join(lines)


def _insert(text: str, container: Value, key: str, value: object) -> Edit:
    style = Style(text, container)
    member = f"{json.dumps(key)}: {style.write(value, inline=style.inline)}"
    comma = "," if container.members else ""
    inside = text[container.start + 1 : container.end - 1]
    if style.inline:
        at = container.start + 1
        blank = inside[: len(inside) - len(inside.lstrip(" \t"))] if container.members else ""
        return Edit(at, at, blank + member + comma)
    line = style.line_end + style.indent + member + comma
    if not inside.strip():
        return Edit(container.start + 1, container.end - 1, line + style.line_end + style.outer)
    at = first_line_end(text, container)
    return Edit(at, at, line)


def first_line_end(text: str, container: Value) -> int:
    """Return where the first line of an object ends, after a comment there."""
    rest = _REST_OF_LINE.match(text, container.start + 1)
    return rest.end() if rest else container.start + 1


def _without(text: str, container: Value, member: Pair) -> str | None:
    """Return the text without a member that ``put`` may have added; None if it did not."""
    if len(container.members) == 1 and not _has_comments(text, container, member):
        return text[: container.start + 1] + text[container.end - 1 :]
    if container.members[0] is not member:
        return None
    start = first_line_end(text, container)
    end = member.value.end if member.comma < 0 else member.comma + 1
    if text[start : member.start].strip():
        return None
    return text[:start] + text[end:]


def _has_comments(text: str, container: Value, member: Pair) -> bool:
    around = text[container.start + 1 : member.start] + text[member.value.end : container.end - 1]
    return bool(around.replace(",", "", 1).strip())
