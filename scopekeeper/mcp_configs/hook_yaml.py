"""Adds a hook to a YAML text, and removes it, and changes nothing else. Pure.

A list or mapping without brackets gets lines of its own, one with brackets gets text inside them.
Each case has a form of its own, so that ``remove`` finds out what was there before.
"""

import re
from collections.abc import Iterator

from scopekeeper.mcp_configs import yaml
from scopekeeper.mcp_configs.document import Edit, Pair, ParseError, Value, apply, position
from scopekeeper.mcp_configs.hook_format import TABLE, scalar
from scopekeeper.mcp_configs.json_edit import member_of, without_item
from scopekeeper.mcp_configs.text_edit import remove_member
from scopekeeper.mcp_configs.yaml import YamlDialect
from scopekeeper.mcp_configs.yaml_edit import dash

_STEP = "  "
_COLON = re.compile(r"[ \t]*:")
_Item = dict[str, object]


def add(text: str, dialect: YamlDialect, event: str, item: _Item) -> str:
    """Return the text with an item at the end of the list of an event; raises ParseError."""
    root, aliased = yaml.parse(text, dialect)
    if root.data is None:
        return apply(text, [_at_end(text, "", event, item)])
    _check(text, root, dict, "the whole", aliased)
    table = member_of(root, TABLE)
    if table is None:
        if isinstance(root.data, dict) and TABLE in root.data:
            _refuse(text, root, f"{TABLE} is brought in by an alias")
        if not root.block:
            return apply(text, [_inside(root, f"{TABLE}: {{{event}: [{_flow(item)}]}}")])
        first = root.members[0].start
        indent = text[text.rfind("\n", 0, first) + 1 : first].lstrip("\ufeff")
        return apply(text, [_at_end(text, indent, event, item)])
    if table.value.data is None:
        return apply(text, [_after(text, table, f" {{ {event}: [{_flow(item)}] }}")])
    _check(text, table.value, dict, TABLE, aliased)
    events = member_of(table.value, event)
    if events is None:
        if not table.value.block:
            return apply(text, [_inside(table.value, f"{event}: [{_flow(item)}]")])
        return apply(text, [_new_event(text, table, event, item)])
    if events.value.data is None:
        return apply(text, [_after(text, events, f" [ {_flow(item)} ]")])
    _check(text, events.value, list, f"{TABLE}.{event}", aliased)
    return apply(text, [_append(text, events.value, item)])


def _check(text: str, value: Value, kind: type, name: str, aliased: frozenset[int]) -> None:
    if not isinstance(value.data, kind):
        _refuse(text, value, f"{name} is not a {'mapping' if kind is dict else 'list'}")
    if value.trouble.startswith("an alias") or value.start in aliased:
        _refuse(text, value, f"{name} is used twice, by an anchor; write it out")


def _refuse(text: str, value: Value, reason: str) -> None:
    raise ParseError(reason, *position(text, value.start, "\n\r"))


def _flow(item: _Item) -> str:
    """Return an item in brackets."""
    return f"{{{', '.join(f'{key}: {scalar(value)}' for key, value in item.items())}}}"


def _block(indent: str, item: _Item) -> list[str]:
    """Return an item as lines of a list without brackets."""
    lines = [f"{key}: {scalar(value)}" for key, value in item.items()]
    marks = ["- ", *["  "] * (len(lines) - 1)]
    return [f"{indent}{mark}{line}" for mark, line in zip(marks, lines, strict=True)]


def _line_end(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _at_end(text: str, indent: str, event: str, item: _Item) -> Edit:
    """Add the whole table at the end; its last line ends as the last one did."""
    end = _line_end(text)
    lines = [f"{indent}{TABLE}:", f"{indent}{_STEP}{event}:",
             *_block(f"{indent}{_STEP}{_STEP}", item)]  # fmt: skip
    written = end.join(lines)
    is_open = bool(text.strip("\ufeff")) and not text.endswith("\n")
    return Edit(len(text), len(text), end + written if is_open else written + end)


def _new_event(text: str, table: Pair, event: str, item: _Item) -> Edit:
    """Add an event as the first one of a table without brackets."""
    first = table.value.members[0].start
    indent = text[text.rfind("\n", 0, first) + 1 : first]
    if indent.strip():
        _refuse(text, table.value, f"the first event in {TABLE} is not at the start of a line")
    at = text.find("\n", table.key_end)
    at -= text[at - 1] == "\r"
    end = _line_end(text)
    lines = [f"{indent}{event}:", *_block(indent + _STEP, item)]
    return Edit(at, at, end + end.join(lines))


def _inside(container: Value, member: str) -> Edit:
    """Add text at the start of a mapping in brackets."""
    at = container.start + 1
    return Edit(at, at, member + (", " if container.members else ""))


def _after(text: str, member: Pair, value: str) -> Edit:
    """Give a key a value that has none."""
    if member.value.end > member.value.start:
        _refuse(text, member.value, f"{member.key[0]} is null; remove it, or write {{}}")
    colon = _COLON.match(text, member.key_end)
    at = colon.end() if colon else member.key_end
    return Edit(at, at, value)


def _append(text: str, array: Value, item: _Item) -> Edit:
    if not array.block:
        if not array.items:
            return Edit(array.start + 1, array.start + 1, _flow(item))
        return Edit(array.items[-1].end, array.items[-1].end, f", {_flow(item)}")
    at = dash(text, array.items[-1])
    indent = text[text.rfind("\n", 0, at) + 1 : max(at, 0)]
    if at < 0 or indent.strip():
        _refuse(text, array, "the last item of the list is not on a line of its own")
    end, stop = _line_end(text), _line_stop(text, array.items[-1].end)
    lines = end.join(_block(indent, item))
    # a text of several lines has its last line end with it
    return Edit(stop, stop, lines + end if text[:stop].endswith("\n") else end + lines)


def _line_stop(text: str, end: int) -> int:
    """Return where the line ends that a value ends in, before its line end."""
    if text[:end].endswith("\n"):
        return end
    stop = text.find("\n", end)
    return len(text) if stop < 0 else stop - (text[stop - 1] == "\r")


def remove(text: str, dialect: YamlDialect, event: str, at: tuple[int, int], item: _Item) -> str:
    """Return the text without a hook, as it was before ``add`` of the item.

    at: the number of its item in the event's list, and 0. If others have changed the item since,
    remove it, and what is empty then.
    """
    root, _ = yaml.parse(text, dialect)
    table = member_of(root, TABLE)
    events = member_of(table.value, event) if table else None
    assert table is not None  # noqa: S101  the item was found there
    assert events is not None  # noqa: S101  as above
    for before in _befores(text, root, table, events, at[0]):
        if _leads_to(before, text, dialect, event, item):
            return before
    if len(events.value.items) > 1:
        return _without_item(text, events.value, at[0])
    if len(table.value.members) > 1:
        return _without_member(text, table.value, events)
    return _without_member(text, root, table)


def _befores(text: str, root: Value, table: Pair, events: Pair, number: int) -> Iterator[str]:
    """Yield what the text may have been."""
    array = events.value
    if len(array.items) == 1:
        for container, member in ((root, table), (table.value, events)):
            if container is root and len(table.value.members) > 1:
                continue
            if container.block:
                yield from _without_lines(text, member)
            else:
                after = member.value.end if member.comma < 0 else member.comma + 2
                yield text[: container.start + 1] + text[after:]
            colon = _COLON.match(text, member.key_end)
            if not member.value.block and colon:
                yield text[: colon.end()] + text[member.value.end :]
        yield text[: array.start + 1] + text[array.items[0].end :]
        return
    item = array.items[number]
    if array.block:
        start = text.rfind("\n", 0, dash(text, item)) + 1
        yield from _without(text, start, item.end)
    else:
        yield text[: array.items[number - 1].end] + text[item.end :]


def _without_lines(text: str, member: Pair) -> Iterator[str]:
    yield from _without(text, text.rfind("\n", 0, member.start) + 1, member.value.end)


def _without(text: str, start: int, end: int) -> Iterator[str]:
    """Yield the text without whole lines, with the line end before or after them."""
    stop = text.find("\n", end)
    if stop >= 0:
        yield text[:start] + text[stop + 1 :]
    if start:
        line = start - 1 - text[:start].endswith("\r\n")
        yield text[:line] + text[end:]


def _leads_to(before: str, text: str, dialect: YamlDialect, event: str, item: _Item) -> bool:
    try:
        return add(before, dialect, event, item) == text
    except ParseError:
        return False


def _without_item(text: str, array: Value, number: int) -> str:
    if not array.block:
        return apply(text, without_item(text, array, number))
    item = array.items[number]
    return next(_without(text, text.rfind("\n", 0, dash(text, item)) + 1, item.end), "")


def _without_member(text: str, container: Value, member: Pair) -> str:
    if not container.block:
        return apply(text, remove_member(text, container.members, member))
    return next(_without_lines(text, member), "")
