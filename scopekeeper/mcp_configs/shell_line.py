"""Puts the line of ``scopekeeper-prefix`` into Claude Code's settings, and takes it out. Pure.

The edit is kept beside the change: only it shows what was there before, such as the blanks of an
empty object.
"""

import json

from scopekeeper.errors import ConfigError
from scopekeeper.mcp_configs import json5, json_edit
from scopekeeper.mcp_configs.document import apply
from scopekeeper.mcp_configs.text_edit import remove_member

VARIABLE = "CLAUDE_CODE_SHELL_PREFIX"
_TABLE = "env"
_CANNOT = "its line cannot be removed without another change", "remove it by hand"


def value(text: str) -> object:
    """Return what the settings have as the variable, None if nothing; raises ParseError."""
    return _variables(json5.parse(text, json5.JSON).data).get(VARIABLE)


def new_text(program: str) -> str:
    """Return the settings of somebody who had none."""
    return json.dumps({_TABLE: {VARIABLE: program}}, indent=2, ensure_ascii=False) + "\n"


def add(text: str, program: str) -> tuple[str, str, str]:
    """Return the text with the line, what was inserted, and what that replaced.

    For a text without the variable. Raises ParseError.
    """
    new = json_edit.put(text, json5.JSON, (_TABLE, VARIABLE), program)
    start = 0
    while text[start : start + 1] == new[start : start + 1] != "":
        start += 1
    end = 0
    while end < min(len(text), len(new)) - start and text[-1 - end] == new[-1 - end]:
        end += 1
    # the same blanks may be at both ends: the inserted text has to be the only one of its kind
    return new, new[start : len(new) - end], text[start : len(text) - end]


def remove(text: str, inserted: str, replaced: str, program: str) -> str:
    """Return the text without the line that ``add`` has put in; raises ParseError, ConfigError.

    If the place was edited since, only the line goes.
    """
    if value(text) != program:
        return text
    wanted = _without(json5.parse(text, json5.JSON).data)
    if inserted and text.count(inserted) == 1 and not replaced.strip():
        before = text.replace(inserted, replaced)
        if _is(before, wanted):
            return before
    root = json5.parse(text, json5.JSON)
    table = json_edit.member_of(root, _TABLE)
    member = json_edit.member_of(table.value, VARIABLE) if table else None
    if table is None or member is None:
        raise ConfigError(*_CANNOT)
    before = apply(text, remove_member(text, table.value.members, member))
    if not _is(before, wanted):
        raise ConfigError(*_CANNOT)
    return before


def _is(text: str, wanted: object) -> bool:
    try:
        return _without(json5.parse(text, json5.JSON).data) == wanted and value(text) is None
    except ValueError:  # a ParseError
        return False


def _variables(data: object) -> dict[str, object]:
    variables = data.get(_TABLE) if isinstance(data, dict) else None
    return variables if isinstance(variables, dict) else {}


def _without(data: object) -> object:
    """Return settings without the variable, and without a table that is empty then."""
    if not isinstance(data, dict) or not isinstance(data.get(_TABLE), dict):
        return data
    rest = {key: each for key, each in data[_TABLE].items() if key != VARIABLE}
    other = {key: each for key, each in data.items() if key != _TABLE}
    return {**other, _TABLE: rest} if rest else other
