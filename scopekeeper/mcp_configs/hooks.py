"""Finds scopekeeper's hooks in the text of a client's settings, adds and removes them. Pure.

A hook is recognised by its command, whoever wrote it. Those of others stay as they are, and where
they are in the list.
"""

import enum
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace

from scopekeeper.errors import ConfigError
from scopekeeper.mcp_configs import hook_json, hook_toml, hook_yaml, json5, toml, yaml
from scopekeeper.mcp_configs.document import Edit, ParseError, apply
from scopekeeper.mcp_configs.hook_format import TABLE, HookFormat, scalar
from scopekeeper.mcp_configs.json5 import Dialect
from scopekeeper.mcp_configs.yaml import YamlDialect


class HookState(enum.StrEnum):
    """Whether a client runs a hook."""

    REGISTERED = "registered"
    NOT_REGISTERED = "not registered"
    SWITCHED_OFF = "switched off"
    """It is registered, and a setting of the file switches all hooks off."""
    NO_LAUNCHER = "launcher missing"
    """It is registered with a launcher that does not exist: it does nothing."""


@dataclass(frozen=True, slots=True)
class HookOutcome:
    """The result for one event of a client."""

    event: str
    state: HookState
    detail: str = ""
    changed: bool = False
    program: str = ""
    """The launcher in the file; '' if there is no hook."""
    updated: bool = False
    """Whether it was registered, and has got another launcher."""


@dataclass(frozen=True, slots=True)
class HookRewrite:
    """The rewritten text, and the result for each event."""

    text: str
    outcomes: tuple[HookOutcome, ...]
    edits: tuple[Edit, ...] = ()
    """The edits that made the text from the one before."""


@dataclass(frozen=True, slots=True)
class _Found:
    """One of scopekeeper's hooks in a text."""

    event: str
    at: tuple[int, int]
    """The number of its item in the event's list, and of its handler in the item."""
    program: str
    command: str


def look(text: str, kind: HookFormat) -> HookRewrite:
    """Return the state of each event, and change nothing; raises ParseError."""
    data = _data(text, kind)
    off = kind.switched_off(data)
    found = {each.event: each for each in _found(data, kind)}
    outcomes = []
    for event in kind.events:
        if event not in found:
            outcomes.append(HookOutcome(event, HookState.NOT_REGISTERED, off))
            continue
        state = HookState.SWITCHED_OFF if off else HookState.REGISTERED
        outcomes.append(HookOutcome(event, state, off, program=found[event].program))
    return HookRewrite(text, tuple(outcomes))


def register(text: str, kind: HookFormat, program: str, *, update: bool = False) -> HookRewrite:
    """Add a hook for each event that has none; raises ParseError and ConfigError.

    With update, those that are there get this launcher.
    """
    data = _data(text, kind)
    if off := kind.switched_off(data):
        raise ConfigError(f"its hooks are switched off: {off}", "change that, and run this again")
    before = {each.event: each for each in _found(data, kind)}
    new, outcomes = text, []
    for event in kind.events:
        command, there = kind.command(program, event), before.get(event)
        outcome = HookOutcome(event, HookState.REGISTERED, changed=True, program=program)
        if there is None:
            new = _add(new, kind, event, kind.item(command))
        elif update and there.command != command:
            new = _exchange(new, kind, there, command)
            outcome = replace(outcome, updated=True)
        else:
            outcome = replace(outcome, changed=False, program=there.program)
        outcomes.append(outcome)
    _prove(new, kind, data)
    return HookRewrite(new, tuple(outcomes), _difference(text, new))


def unregister(text: str, kind: HookFormat) -> HookRewrite:
    """Remove each of scopekeeper's hooks; raises ParseError and ConfigError."""
    data = _data(text, kind)
    had = {each.event: each.program for each in _found(data, kind)}
    new = text
    # the last one that was added first; one at a time, since the numbers change
    while left := list(_found(_data(new, kind), kind)):
        last = max(left, key=lambda each: (_order(kind, each.event), each.at))
        was, new = new, _remove(new, kind, last)
        if new == was or len(list(_found(_data(new, kind), kind))) >= len(left):
            raise ConfigError(f"its hook {last.event} is written in a way that cannot be removed",
                              "remove it by hand")  # fmt: skip
    if had:
        _prove(new, kind, data)
    outcomes = tuple(
        HookOutcome(event, HookState.NOT_REGISTERED, changed=event in had,
                    program=had.get(event, ""))
        for event in dict.fromkeys((*kind.events, *had))
    )  # fmt: skip
    return HookRewrite(new, outcomes, _difference(text, new))


def is_only_ours(text: str, kind: HookFormat) -> bool:
    """Return whether nothing is left in a file of scopekeeper's own."""
    left = _without_ours(_data(text, kind), kind)
    return bool(kind.beside) and left == _data(new_text(kind), kind)


def new_text(kind: HookFormat) -> str:
    """Return the text of a file that has to be made, without hooks yet."""
    if not kind.beside:
        return kind.empty
    lines = ",\n".join(f'  "{key}": {scalar(value)}' for key, value in kind.beside)
    return f"{{\n{lines}\n}}\n"


def holds_hooks(text: str, backup: bytes, kind: HookFormat) -> bool:
    """Return whether a text has the hooks of a backup, but for scopekeeper's own."""
    try:
        now, before = (_without_ours(_data(one, kind), kind) for one in (text, backup.decode()))
    except ValueError:  # a ParseError, or not UTF-8
        return False
    return _table(now) == _table(before)


def _order(kind: HookFormat, event: str) -> int:
    """Return when an event was added; one of an earlier version comes last."""
    return kind.events.index(event) if event in kind.events else len(kind.events)


def _data(text: str, kind: HookFormat) -> object:
    if isinstance(kind.dialect, Dialect):
        return json5.parse(text, kind.dialect).data
    if isinstance(kind.dialect, YamlDialect):
        return yaml.parse(text, kind.dialect)[0].data
    return toml.parse(text)[0]


def _table(data: object) -> object:
    return data.get(TABLE) if isinstance(data, dict) else None


def _handlers(data: object, kind: HookFormat) -> Iterator[tuple[str, tuple[int, int], object]]:
    """Yield each handler with its event and its place."""
    table = _table(data)
    for event, items in table.items() if isinstance(table, dict) else ():
        for number, item in enumerate(items if isinstance(items, list) else ()):
            inner = item.get(TABLE) if kind.is_grouped and isinstance(item, dict) else [item]
            for place, handler in enumerate(inner if isinstance(inner, list) else ()):
                yield event, (number, place), handler


def _found(data: object, kind: HookFormat) -> Iterator[_Found]:
    for event, at, handler in _handlers(data, kind):
        command = handler.get(kind.key) if isinstance(handler, dict) else None
        if program := kind.program(command, event):
            yield _Found(event, at, program, str(command))


def _add(text: str, kind: HookFormat, event: str, item: dict[str, object]) -> str:
    if isinstance(kind.dialect, Dialect):
        return hook_json.add(text, kind.dialect, event, item)
    if isinstance(kind.dialect, YamlDialect):
        return hook_yaml.add(text, kind.dialect, event, item)
    return hook_toml.add(text, event, item)


def _remove(text: str, kind: HookFormat, found: _Found) -> str:
    item = kind.item(found.command)
    if isinstance(kind.dialect, Dialect):
        return hook_json.remove(text, kind.dialect, found.event, found.at, item)
    if isinstance(kind.dialect, YamlDialect):
        return hook_yaml.remove(text, kind.dialect, found.event, found.at, item)
    return hook_toml.remove(text, found.event, found.at, item)


def _exchange(text: str, kind: HookFormat, found: _Found, command: str) -> str:
    """Write another command in its place; it is written as ``add`` writes it."""
    start = end = -1
    if kind.dialect is None:
        path = (TABLE, found.event, TABLE, kind.key)
        places = [each.member.value for each in toml.parse(text)[1]
                  if each.full == path and each.member.value.data == found.command]  # fmt: skip
        if places:
            start, end = places[0].start, places[0].end
    else:
        value = (
            json5.parse(text, kind.dialect)
            if isinstance(kind.dialect, Dialect)
            else yaml.parse(text, kind.dialect)[0]
        )
        steps: list[str | int] = [TABLE, found.event, found.at[0]]
        steps += [TABLE, found.at[1]] if kind.is_grouped else []
        for step in [*steps, kind.key]:
            value = (
                value.items[step]
                if isinstance(step, int)
                else next(each.value for each in value.members if each.key == (step,))
            )
        if not value.trouble:
            start, end = value.start, value.end
    if start < 0:
        raise ConfigError(f"its hook {found.event} is written in a way that cannot be changed",
                          "remove it by hand, and run this again")  # fmt: skip
    return apply(text, [Edit(start, end, scalar(command))])


def _without_ours(data: object, kind: HookFormat) -> object:
    """Return the settings without scopekeeper's hooks, and without what is empty then."""
    made = deepcopy(data) if data is not None else {}
    table = _table(made)
    ours = {(each.event, each.at) for each in _found(made, kind)}
    if not isinstance(made, dict) or not isinstance(table, dict):
        if isinstance(made, dict) and TABLE in made and table is None:
            del made[TABLE]
        return made
    for event, items in list(table.items()):
        for number, item in reversed(list(enumerate(items)) if isinstance(items, list) else []):
            inner = item.get(TABLE) if kind.is_grouped and isinstance(item, dict) else None
            places = [place for name, (at, place) in ours if (name, at) == (event, number)]
            for place in sorted(places, reverse=True):
                if inner is None or len(inner) == 1:
                    items.pop(number)
                else:
                    inner.pop(place)
        if items is None or items == []:
            del table[event]
    if not table:
        del made[TABLE]
    return made


def _prove(new: str, kind: HookFormat, data: object) -> None:
    """Check that a new text has the other settings of the old one."""
    try:
        now = _without_ours(_data(new, kind), kind)
    except ParseError:
        now = None
    if now != _without_ours(data, kind):
        raise ConfigError("nothing was changed: its hooks are written in a way that cannot be "
                          "rewritten", "please report this, with them")  # fmt: skip


def _difference(text: str, new: str) -> tuple[Edit, ...]:
    """Return one edit that makes the new text."""
    if text == new:
        return ()
    start = 0
    while text[start : start + 1] == new[start : start + 1] != "":
        start += 1
    end = 0
    while end < min(len(text), len(new)) - start and text[-1 - end] == new[-1 - end]:
        end += 1
    return (Edit(start, len(text) - end, new[start : len(new) - end]),)
