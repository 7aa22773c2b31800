"""Adds a hook to a JSON text, and removes it, and changes nothing else. Pure.

A new key goes to the start of its object, a new item to the end of its list. Each case has a form
of its own, so that ``remove`` finds out what was there before: an empty list of the user, or none.
"""

import json
from collections.abc import Iterator

from scopekeeper.mcp_configs import json5
from scopekeeper.mcp_configs.document import Edit, Pair, ParseError, Value, apply, position
from scopekeeper.mcp_configs.hook_format import TABLE
from scopekeeper.mcp_configs.json5 import Dialect
from scopekeeper.mcp_configs.json_edit import Style, first_line_end, member_of, without_item
from scopekeeper.mcp_configs.text_edit import remove_member


def add(text: str, dialect: Dialect, event: str, item: dict[str, object]) -> str:
    """Return the text with an item at the end of the list of an event; raises ParseError."""
    root = json5.parse(text, dialect)
    _check(text, root, dict, "the whole")
    table = member_of(root, TABLE)
    if table is None:
        return apply(text, [_member(text, root, TABLE, {event: [item]}, is_root=True)])
    _check(text, table.value, dict, TABLE)
    events = member_of(table.value, event)
    if events is None:
        return apply(text, [_member(text, table.value, event, [item], is_root=False)])
    _check(text, events.value, list, f"{TABLE}.{event}")
    return apply(text, [_item(text, events.value, item)])


def _check(text: str, value: Value, kind: type, name: str) -> None:
    if not isinstance(value.data, kind):
        noun = "an object" if kind is dict else "a list"
        raise ParseError(f"{name} is not {noun}", *position(text, value.start, "\n\r"))


def _member(text: str, container: Value, key: str, value: object, *, is_root: bool) -> Edit:
    """Insert a key at the start of an object."""
    style, name = Style(text, container), json.dumps(key)
    inside = text[container.start + 1 : container.end - 1]
    at = container.start + 1
    if container.members:
        written = f"{name}: {style.write(value, inline=style.inline)},"
        if style.inline:
            blank = inside[: len(inside) - len(inside.lstrip(" \t"))]
            return Edit(at, at, blank + written)
        at = first_line_end(text, container)
        return Edit(at, at, style.line_end + style.indent + written)
    if not is_root:  # a blank marks an object that was there, and empty
        return Edit(at, at, f" {name}: {style.write(value, inline=True)}")
    written = style.line_end + style.indent + f"{name}: {style.write(value, inline=False)}"
    return Edit(at, at, written + style.line_end)


def _item(text: str, array: Value, item: dict[str, object]) -> Edit:
    """Insert an item at the end of a list."""
    if not array.items:  # a blank marks a list that was there, and empty
        at = array.start + 1
        return Edit(at, at, f" {json.dumps(item, ensure_ascii=False)}")
    last, style = array.items[-1], Style(text, array)
    start = text.rfind("\n", 0, last.start) + 1
    indent = text[start : last.start]
    if start <= array.start or indent.strip(" \t"):
        return Edit(last.end, last.end, f", {json.dumps(item, ensure_ascii=False)}")
    lines = json.dumps(item, ensure_ascii=False, indent=style.step).split("\n")
    between = style.line_end + indent
    return Edit(last.end, last.end, "," + between + between.join(lines))


def remove(
    text: str, dialect: Dialect, event: str, at: tuple[int, int], item: dict[str, object]
) -> str:
    """Return the text without a hook, as it was before ``add`` of the item.

    at: the number of its item in the event's list, and of its handler there. If others have changed
    the item since, remove the handler, and what is empty then.
    """
    root = json5.parse(text, dialect)
    table = member_of(root, TABLE)
    events = member_of(table.value, event) if table else None
    assert table is not None  # noqa: S101  the item was found there
    assert events is not None  # noqa: S101  as above
    number, handler = at
    group = member_of(events.value.items[number], TABLE)
    if group is not None and len(group.value.items) > 1:
        return apply(text, without_item(text, group.value, handler))
    for before in _befores(text, root, table, events, number):
        if _leads_to(before, text, dialect, event, item):
            return before
    if len(events.value.items) > 1:
        return apply(text, without_item(text, events.value, number))
    container, member = (root, table) if len(table.value.members) == 1 else (table.value, events)
    around = text[container.start + 1 : member.start] + text[member.value.end : container.end - 1]
    if len(container.members) == 1 and not around.strip(", \t\r\n"):
        return apply(text, [Edit(container.start + 1, container.end - 1, "")])
    return apply(text, remove_member(text, container.members, member))


def _befores(text: str, root: Value, table: Pair, events: Pair, number: int) -> Iterator[str]:
    """Yield what the text may have been."""
    if len(events.value.items) == 1:
        if len(table.value.members) == 1:
            yield from _without_first(text, root, table)
        yield from _without_first(text, table.value, events)
    array, item = events.value, events.value.items[number]
    before = array.items[number - 1].end if number else array.start + 1
    yield text[:before] + text[item.end :]


def _without_first(text: str, container: Value, member: Pair) -> Iterator[str]:
    """Yield the text without the first member, with the blanks that may have come with it."""
    if container.members[0] is not member:
        return
    end = member.value.end if member.comma < 0 else member.comma + 1
    line = len(text[: member.start].rstrip(" \t"))
    line -= text[:line].endswith("\n") + text[:line].endswith("\r\n")
    for start in (container.start + 1, line):
        for stop in (end, end + 1, end + 2):
            if start > container.start and not text[end:stop].strip("\r\n"):
                yield text[:start] + text[stop:]


def _leads_to(
    before: str, text: str, dialect: Dialect, event: str, item: dict[str, object]
) -> bool:
    try:
        return add(before, dialect, event, item) == text
    except ParseError:  # a comment swallowed the text after it
        return False
