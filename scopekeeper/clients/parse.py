"""Parses clients.toml strictly: known keys, types, lengths. Pure.

The keys that launches read are here, those of the tables in a client's table in ``keys``.
"""

import functools
import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scopekeeper.clients import format as form
from scopekeeper.clients import keys
from scopekeeper.clients.format import Row
from scopekeeper.clients.keys import unknown
from scopekeeper.errors import ScopekeeperError

Fields = dict[str, Any]
KEYS = ("programs", "session", "beside", "prefix", "lane", "owner", "packages", "title", "short",
         "bash")  # fmt: skip
HOOKS = "hooks"
"""The key of a table for ``scopekeeper hook``; launches do not read it."""
_HOOK_LISTS = ("start", "end", "shared", "id", "keeps", "drops")


def _is_word(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 64 and value.isprintable()


_LISTS: Mapping[str, tuple[Callable[[str], bool], str]] = {
    "programs": (form.is_program, "file names of programs"),
    "session": (form.is_variable, "names of variables, none of SCOPEKEEPER_"),
    "beside": (form.is_variable, "names of variables, none of SCOPEKEEPER_"),
    "packages": (_is_word, "names of packages"),
}


class ClientsError(ScopekeeperError):
    """An invalid table of clients; names the file and the table."""


def parse(texts: Sequence[tuple[str, str]]) -> tuple[Row, ...]:
    """Return the table for launches, of files as (path, text), later ones over earlier ones.

    Raises ClientsError.
    """
    rows = tuple(row_of(name, fields) for name, fields in merge(texts).items()
                 if is_looked_for(fields))  # fmt: skip
    if len(rows) > form.ROWS_MAX:
        raise ClientsError(f"{texts[-1][0]}: more than {form.ROWS_MAX} clients")
    return rows


def is_looked_for(fields: Fields) -> bool:
    """Return whether a launch looks for the processes of a client: not if it has only files."""
    return bool(fields.get("session") or "prefix" in fields or "servers" not in fields)


def short_of(name: str, fields: Fields) -> str:
    """Return the client's other name: that of its sessions and hooks."""
    short: str = fields.get("short", name)
    return short


def row_of(name: str, fields: Fields) -> Row:
    """Return the row of a client."""
    return (
        name, fields.get("programs", ()), fields.get("session", ()), fields.get("beside", ()),
        fields.get("prefix", short_of(name, fields)), fields.get("lane", "main"),
        fields.get("owner", form.OWNERS[0]),
    )  # fmt: skip


def merge(texts: Sequence[tuple[str, str]]) -> dict[str, Fields]:
    """Return the keys of each client; those of a table in its table are a dictionary.

    Raises ClientsError.
    """
    found: dict[str, Fields] = {}
    for path, text in texts:
        for word, table in _document(path, text).items():
            where = f"{path}: [{word[:40]}]"
            if not form.is_name(word):
                raise ClientsError(
                    f"{where}: a client's name has up to 32 letters, digits, and . _ -"
                )
            if not isinstance(table, dict):
                raise ClientsError(f"{path}: {word} is in no client's table; write [NAME]")
            name = named(word, found) or word
            fields = found.setdefault(name, {})
            try:
                for key, value in table.items():
                    _put(fields, key, value)
                _check_whole(name, found)
            except ValueError as error:
                raise ClientsError(f"{where}: {error}") from None
    return found


def named(word: str, clients: Mapping[str, Fields]) -> str:
    """Return the name of the client with this name or short name; '' if there is none."""
    if word in clients:
        return word
    return next((name for name, each in clients.items() if each.get("short") == word), "")


def _put(fields: Fields, key: str, value: object) -> None:
    """Set one key of a client; raises ValueError with one sentence."""
    if key == HOOKS:
        fields[key] = fields.get(key, {}) | _hooks(value)
    elif key in keys.SECTIONS:
        fields[key] = fields.get(key, {}) | keys.section(key, value)
    else:
        fields[key] = _checked(key, value)


def _check_whole(name: str, clients: Mapping[str, Fields]) -> None:
    """Check what is wrong only beside other keys, or other clients; raises ValueError."""
    fields = clients[name]
    if not fields.get("programs") and is_looked_for(fields):
        raise ValueError(f'name its programs: programs = ["{name}"]')
    short = fields.get("short", name)
    if any(short in (other, each.get("short")) for other, each in clients.items() if other != name):
        raise ValueError(f"short is {short}, the name of another client")
    for section, required in keys.REQUIRED.items():
        missing = [key for key in required if section in fields and key not in fields[section]]
        if missing:
            raise ValueError(f"{section}.{missing[0]} is missing")
        keys.check_language(section, fields.get(section, {}))
    if "hook_settings" in fields and HOOKS not in fields:
        raise ValueError(f"hook_settings needs [{name}.hooks], which has what its hooks do")
    servers = fields.get("servers", {})
    for path in (*servers.get("files", ()), *servers.get("workspaces", ())):
        if (other := keys.client_in(path)) and not folders_of(other, clients):
            raise ValueError(f"no client {other} has user_folders, as {path} needs")


def folders_of(client: str, clients: Mapping[str, Fields]) -> tuple[str, ...]:
    """Return the user folders of a client, by either of its names."""
    fields = clients.get(named(client, clients), {})
    found: tuple[str, ...] = fields.get("servers", {}).get("user_folders", ())
    return found


@functools.lru_cache(maxsize=4)
def _document(path: str, text: str) -> Fields:
    """Return the tables of a file, which nobody changes; raises ClientsError."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ClientsError(f"{path}: it is nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, or a number that int() refuses
        raise ClientsError(f"{path}: {error}") from None


def _checked(key: str, value: object) -> str | tuple[str, ...]:
    """Return the value of a key; raises ValueError with one sentence."""
    if key not in KEYS:
        raise unknown(key, (*KEYS, HOOKS, *keys.SECTIONS))
    if key in _LISTS:
        is_valid, what = _LISTS[key]
        is_list = isinstance(value, list) and len(value) <= form.LIST_MAX
        if not is_list or not all(isinstance(each, str) and is_valid(each) for each in value):  # type: ignore[attr-defined]
            raise ValueError(f"{key} is a list of up to {form.LIST_MAX} {what}")
        return tuple(value)  # type: ignore[arg-type]
    text = value if isinstance(value, str) else ""
    if key == "owner" and text not in form.OWNERS:
        raise ValueError(f"owner is {' or '.join(map(repr, form.OWNERS))}")
    if key in ("prefix", "short") and not form.is_name(text):
        raise ValueError(f"{key} is a text of up to 32 letters, digits, and . _ -")
    if key == "lane" and not form.is_lane(text):
        raise ValueError("lane is a text of up to 64 letters, digits, and . _ - :")
    if key in ("title", "bash"):
        try:
            return keys.text(value)
        except ValueError as error:
            raise ValueError(f"{key} is {error}") from None
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
            raise unknown(key, ("pid", *_HOOK_LISTS))
        elif (
            not isinstance(each, list) or len(each) > form.LIST_MAX or not all(map(_is_word, each))
        ):
            raise ValueError(f"hooks.{key} is a list of up to {form.LIST_MAX} words")
    return {key: tuple(each) if isinstance(each, list) else each for key, each in value.items()}
