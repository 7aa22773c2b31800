"""Adds a hook to a TOML text, and removes it, and changes nothing else. Pure.

A new hook is one more table at the end of the text, so that the numbers of the others stay: Codex
keeps by number which ones the user trusts.
"""

import re
from collections.abc import Iterator

from scopekeeper.mcp_configs import toml
from scopekeeper.mcp_configs.document import ParseError
from scopekeeper.mcp_configs.hook_format import TABLE, scalar
from scopekeeper.mcp_configs.toml import TomlHeader

_Item = dict[str, object]
_BY_HAND = "has its hooks in brackets; write them as tables [[hooks.EVENT]]"
_REST = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\r?\n)*\Z")
"""Blank lines and comments, which belong to the table after them."""


def add(text: str, event: str, item: _Item) -> str:
    """Return the text with an item at the end of the array of an event; raises ParseError."""
    data, _ = toml.parse(text)
    table = data.get(TABLE, {})
    if not isinstance(table, dict) or not isinstance(table.get(event, []), list):
        raise ParseError(f"{TABLE} is not a table of arrays", 1, 1)
    end = _line_end(text)
    block = end.join(_lines(event, item))
    bare = text.strip("\ufeff")
    if not bare:
        added = text + block + end
    elif text.endswith("\n"):
        added = text + end + block + end
    else:
        added = text + end + end + block
    try:
        toml.parse(added)
    except ParseError:
        raise ParseError(_BY_HAND, 1, 1) from None
    return added


def _line_end(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _lines(event: str, item: _Item) -> Iterator[str]:
    """Yield the lines of an item with one handler."""
    handlers = item[TABLE]
    assert isinstance(handlers, list)  # noqa: S101  Codex has groups
    yield f"[[{TABLE}.{event}]]"
    yield ""
    yield f"[[{TABLE}.{event}.{TABLE}]]"
    yield from (f"{key} = {scalar(value)}" for key, value in handlers[0].items())


def remove(text: str, event: str, at: tuple[int, int], item: _Item) -> str:
    """Return the text without a hook, as it was before ``add`` of the item.

    at: the number of its item in the event's array, and of its handler there. If others have
    changed the item since, remove its table. Raises ParseError if it is in brackets.
    """
    for before in _befores(text, event, item):
        if _leads_to(before, text, event, item):
            return before
    path = (TABLE, event)
    found = toml.headers(text)
    groups = [each for each in found if each.path == path and each.is_array]
    if at[0] >= len(groups):
        raise ParseError(_BY_HAND, 1, 1)
    here = found.index(groups[at[0]])
    stop = here + 1
    while stop < len(found) and found[stop].path[:2] == path and found[stop].path != path:
        stop += 1
    handlers = [each for each in found[here:stop] if each.path == (*path, TABLE)]
    if at[1] >= len(handlers):
        raise ParseError(_BY_HAND, 1, 1)
    if len(handlers) == 1:
        return _without(text, found, here, stop)
    first = found.index(handlers[at[1]])
    return _without(text, found, first, first + 1)


def _without(text: str, found: list[TomlHeader], first: int, stop: int) -> str:
    """Return the text without the tables from first to before stop."""
    start, line_end = found[first].start, _line_end(text)
    end = found[stop].start if stop < len(found) else len(text)
    if kept := _REST.search(text[start:end]):
        end = start + kept.start()
        end += len(line_end) if text.startswith(line_end, end) else 0
    before = text[:start].removesuffix(line_end)
    if end == len(text) and not text.endswith(line_end):
        before = before.removesuffix(line_end)
    return before + text[end:] if before else text[end:].removeprefix(line_end)


def _befores(text: str, event: str, item: _Item) -> Iterator[str]:
    """Yield what the text may have been, if the item is the last table."""
    end = _line_end(text)
    block = end.join(_lines(event, item))
    start = text.rfind(block)
    if start < 0:
        return
    after = start + len(block)
    if text.startswith(end, after):
        yield text[:start].removesuffix(end) + text[after + len(end) :]
        yield text[:start] + text[after + len(end) :]
    yield text[:start].removesuffix(end).removesuffix(end) + text[after:]


def _leads_to(before: str, text: str, event: str, item: _Item) -> bool:
    try:
        return add(before, event, item) == text
    except ParseError:
        return False
