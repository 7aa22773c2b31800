"""Parses clients.toml strictly: known keys, types, lengths. Pure."""

import difflib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scopekeeper.clients import format as form
from scopekeeper.clients.format import Row
from scopekeeper.errors import ScopekeeperError

Fields = dict[str, Any]
_KEYS = ("programs", "session", "beside", "prefix", "lane", "owner")
HOOKS = "hooks"
"""The key of a table for ``scopekeeper hook``; launches do not read it."""
_HOOK_LISTS = ("start", "end", "shared", "id", "keeps", "drops")
_LISTS: Mapping[str, tuple[Callable[[str], bool], str]] = {
    "programs": (form.is_program, "file names of programs"),
    "session": (form.is_variable, "names of variables, none of SCOPEKEEPER_"),
    "beside": (form.is_variable, "names of variables, none of SCOPEKEEPER_"),
}


class ClientsError(ScopekeeperError):
    """An invalid table of clients; names the file and the table."""


def parse(texts: Sequence[tuple[str, str]], built_in: Sequence[Row] = ()) -> tuple[Row, ...]:
    """Merge files, each a path and its text, later ones last, over a table; raises ClientsError."""
    return tuple(_row(name, fields) for name, fields in merge(texts, built_in).items())


def merge(texts: Sequence[tuple[str, str]], built_in: Sequence[Row] = ()) -> dict[str, Fields]:
    """Return the keys of each client, those of ``hooks`` in a dictionary; raises ClientsError."""
    found: dict[str, Fields] = {row[0]: dict(zip(_KEYS, row[1:], strict=True)) for row in built_in}
    for path, text in texts:
        for name, table in _document(path, text).items():
            where = f"{path}: [{name[:40]}]"
            if not form.is_name(name):
                raise ClientsError(
                    f"{where}: a client's name has up to 32 letters, digits, and . _ -"
                )
            if not isinstance(table, dict):
                raise ClientsError(f"{path}: {name} is in no client's table; write [NAME]")
            fields = found.setdefault(name, {})
            for key, value in table.items():
                try:
                    if key == HOOKS:
                        fields[key] = fields.get(key, {}) | _hooks(value)
                    else:
                        fields[key] = _checked(key, value)
                except ValueError as error:
                    raise ClientsError(f"{where}: {error}") from None
            if not fields.get("programs"):
                raise ClientsError(f'{where}: name its programs: programs = ["{name}"]')
    if len(found) > form.ROWS_MAX:
        raise ClientsError(f"{texts[-1][0]}: more than {form.ROWS_MAX} clients")
    return found


def _document(path: str, text: str) -> Fields:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ClientsError(f"{path}: it is nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, or a number that int() refuses
        raise ClientsError(f"{path}: {error}") from None


def _checked(key: str, value: object) -> str | tuple[str, ...]:
    """Return the value of a key; raises ValueError with one sentence."""
    if key not in _KEYS:
        raise _unknown(key, (*_KEYS, HOOKS))
    if key in _LISTS:
        is_valid, what = _LISTS[key]
        is_list = isinstance(value, list) and len(value) <= form.LIST_MAX
        if not is_list or not all(isinstance(each, str) and is_valid(each) for each in value):  # type: ignore[attr-defined]
            raise ValueError(f"{key} is a list of up to {form.LIST_MAX} {what}")
        return tuple(value)  # type: ignore[arg-type]
    text = value if isinstance(value, str) else ""
    if key == "owner" and text not in form.OWNERS:
        raise ValueError(f"owner is {' or '.join(map(repr, form.OWNERS))}")
    if key == "prefix" and not form.is_name(text):
        raise ValueError("prefix is a text of up to 32 letters, digits, and . _ -")
    if key == "lane" and not form.is_lane(text):
        raise ValueError("lane is a text of up to 64 letters, digits, and . _ - :")
    return text


def _hooks(value: object) -> Fields:
    """Return the keys of a table of hooks; raises ValueError with one sentence."""
    if not isinstance(value, dict):
        raise ValueError("hooks is a table; write [NAME.hooks]")  # noqa: TRY004
    for key, each in value.items():
        if key == "pid":
            if not isinstance(each, str) or not form.is_variable(each):
                raise ValueError("hooks.pid is the name of a variable, none of SCOPEKEEPER_")
        elif key not in _HOOK_LISTS:
            raise _unknown(key, ("pid", *_HOOK_LISTS))
        elif (
            not isinstance(each, list) or len(each) > form.LIST_MAX or not all(map(_is_word, each))
        ):
            raise ValueError(f"hooks.{key} is a list of up to {form.LIST_MAX} words")
    return {key: tuple(each) if isinstance(each, list) else each for key, each in value.items()}


def _is_word(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 64 and value.isprintable()


def _unknown(key: str, known: Sequence[str]) -> ValueError:
    near = difflib.get_close_matches(key, known, 1)
    return ValueError(f"unknown key {key[:40]}" + (f"; did you mean {near[0]}?" if near else ""))


def _row(name: str, fields: Fields) -> Row:
    return (
        name, fields["programs"], fields.get("session", ()), fields.get("beside", ()),
        fields.get("prefix", name), fields.get("lane", "main"), fields.get("owner", form.OWNERS[0]),
    )  # fmt: skip
