"""The keys of a client's table that launches do not read, and what each may be. Pure.

A value that is right comes back hashable: a list as a tuple, a table as a tuple of pairs.
"""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scopekeeper.clients import format as form

Check = Callable[[Any], Any]
"""Returns the value of a key; raises ValueError with what it has to be."""
LANGUAGES = ("json", "json with comments", "jsonc", "json5", "toml", "yaml", "yaml 1.1")
_MOST = 16
_WORD_MAX, _TEXT_MAX, _PATH_MAX = 64, 400, 256
_WHERE = re.compile(r"(?:\$[A-Z_][A-Z0-9_]*|\{([\w.-]{1,32})\})(?:/[^/]+)*", re.ASCII)
"""A path: a variable, or the user folders of a client, and what is below."""
_BARE = re.compile(r"[A-Za-z0-9_-]{1,64}")


def unknown(key: str, known: Sequence[str]) -> ValueError:
    """Return the error for a key that is none of these."""
    near = difflib.get_close_matches(key, known, 1)
    return ValueError(f"unknown key {key[:40]}" + (f"; did you mean {near[0]}?" if near else ""))


def section(name: str, value: object) -> dict[str, Any]:
    """Return the keys of one of ``SECTIONS``; raises ValueError with one sentence."""
    if not isinstance(value, dict):
        raise ValueError(f"{name} is a table; write [NAME.{name}]")  # noqa: TRY004
    checks = SECTIONS[name]
    found = {}
    for key, each in value.items():
        if key not in checks:
            raise unknown(key, tuple(checks))
        try:
            found[key] = checks[key](each)
        except ValueError as error:
            raise ValueError(f"{name}.{key} is {error}") from None
    return found


def check_language(name: str, fields: Mapping[str, Any]) -> None:
    """Check that the language of a section has all its keys; raises ValueError."""
    family = fields.get("language", LANGUAGES[0])
    for families, only in ONLY_FOR[name].items():
        for key in only:
            if key in fields and not family.startswith(tuple(families.split())):
                raise ValueError(f"{name}.{key} is only for {' and '.join(families.split())}")


def client_in(path: str) -> str:
    """Return the client whose user folders a path of ``files`` is below; '' if none is named."""
    found = _WHERE.fullmatch(path)
    return found[1] or "" if found else ""


def _is_text(value: object, most: int) -> bool:
    return isinstance(value, str) and 0 < len(value) <= most and value.isprintable()


def _is_below_variable(value: object) -> bool:
    return str(value)[:1] == "$" and _WHERE.fullmatch(str(value)) is not None


def _is_path(value: object) -> bool:
    """Return whether a value is a path below a folder, which may have wildcards."""
    return _is_text(value, _PATH_MAX) and all(
        part not in ("", ".", "..") for part in str(value).split("/")
    )


def text(value: object) -> str:
    """Return a text; raises ValueError with what it has to be."""
    if not _is_text(value, _TEXT_MAX):
        raise ValueError(f"a text of up to {_TEXT_MAX} characters, in one line")
    return str(value)


def _word(value: object) -> str:
    if not isinstance(value, str) or not _BARE.fullmatch(value):
        raise ValueError("a name of up to 64 letters, digits, and _ -")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")  # noqa: TRY004
    return value


def _list(what: str, is_valid: Callable[[object], bool]) -> Check:
    def check(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) > _MOST or not all(map(is_valid, value)):
            raise ValueError(f"a list of up to {_MOST} {what}")
        return tuple(tuple(each) if isinstance(each, list) else each for each in value)

    return check


def _below_home(check: Check) -> Check:
    """Return the check of a list of paths in which ``~/`` is ``$HOME/``."""

    def read(value: object) -> object:
        paths = [*map(_without_tilde, value)] if isinstance(value, list) else value
        return check(paths)

    return read


def _without_tilde(path: object) -> object:
    return f"$HOME{path[1:]}" if isinstance(path, str) and path[:2] == "~/" else path


def _table(what: str, key: Callable[[str], Any], is_valid: Callable[[object], bool]) -> Check:
    def check(value: object) -> tuple[tuple[Any, Any], ...]:
        is_small = isinstance(value, dict) and len(value) <= _MOST
        if not is_small or not all(_is_text(name, _WORD_MAX) for name in value):  # type: ignore[attr-defined]
            raise ValueError(f"a table of {what}")
        assert isinstance(value, dict)  # noqa: S101  as above
        if not all(map(is_valid, value.values())):
            raise ValueError(f"a table of {what}")
        return tuple((key(name), each) for name, each in value.items())

    return check


def _language(value: object) -> str:
    if value not in LANGUAGES:
        raise ValueError(f"one of {', '.join(LANGUAGES)}")
    return str(value)


def _file(value: object) -> str:
    if not _is_path(value):
        raise ValueError("the path of a file below the folder, without a / before it")
    return str(value)


def _steps(key: str) -> tuple[str, ...]:
    return tuple(key.split("."))


_words = _list("words", lambda each: _is_text(each, _WORD_MAX))
_bare_words = _list("names of letters, digits, and _ -", lambda each: bool(
    isinstance(each, str) and _BARE.fullmatch(each)))  # fmt: skip
_paths = _list("paths below a folder, without a / before them", _is_path)
_places = _list("lists of keys", lambda each: isinstance(each, list) and 0 < len(each) <= _MOST
                and all(_is_text(key, _WORD_MAX) for key in each))  # fmt: skip
_wheres = _below_home(_list(
    "paths that begin with ~/ or a variable, as $MINE_HOME/mcp.json does",
    lambda each: _is_text(each, _PATH_MAX) and _WHERE.fullmatch(str(each)) is not None,
))  # fmt: skip
_variables = _below_home(_list(
    "paths that begin with ~/ or a variable, as $MINE_HOME/data does",
    lambda each: _is_text(each, _PATH_MAX) and _is_below_variable(each),
))  # fmt: skip
_VALUES = "texts and numbers, by names of letters, digits, and _ -"


def _pair(value: object) -> tuple[str, ...]:
    checked: tuple[str, ...] = _words(value)
    if len(checked) != 2:
        raise ValueError("a list of two words: the keys of the program and of its arguments")
    return checked


def _values(value: object) -> tuple[tuple[str, str | int], ...]:
    checked: tuple[tuple[str, str | int], ...] = _table(
        _VALUES, str, lambda each: type(each) is int or _is_text(each, _TEXT_MAX)
    )(value)
    if not all(_BARE.fullmatch(key) for key, _ in checked):
        raise ValueError(f"a table of {_VALUES}")
    return checked


SECTIONS: Mapping[str, Mapping[str, Check]] = {
    "servers": {
        "language": _language,
        "places": _places,
        "files": _wheres,
        "projects": _paths,
        "shared": _paths,
        "names": _paths,
        "own_keys": _words,
        "by_content": _flag,
        "folders": _paths,
        "tilde": _flag,
        "command": _word,
        "arguments": _word,
        "command_is_list": _flag,
        "nested": _pair,
        "named": _flag,
        "flat": _flag,
        "settings": _words,
        "unchanged": _table("reasons", _steps, lambda each: _is_text(each, _TEXT_MAX)),
        "writes_back": _words,
        "passes": _word,
        "user_folders": _variables,
        "projects_in": _word,
        "workspaces": _wheres,
        "plugins": _table("paths that begin with a variable", str, lambda each:
                          _is_text(each, _PATH_MAX) and _is_below_variable(each)),
    },
    "hook_settings": {
        "events": _bare_words,
        "folders": _variables,
        "file": _file,
        "language": _language,
        "is_grouped": _flag,
        "is_shell": _flag,
        "key": _word,
        "before": _values,
        "after": _values,
        "off": _table("true or false", _steps, lambda each: isinstance(each, bool)),
        "beside": _values,
        "note": text,
    },
    "launchers": {
        "folders": _variables,
        "file": _file,
        "key": _word,
        "variables": _table("names of programs", str, lambda each: isinstance(each, str)
                            and form.is_program(each)),
    },
}  # fmt: skip
"""The tables [NAME.servers] and so on, with their keys."""
ONLY_FOR: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "servers": {
        "toml": ("passes",), "yaml": ("named",), "json": ("flat",),
        "json yaml": ("command", "arguments", "command_is_list", "nested", "settings"),
    },
    "hook_settings": {"json": ("beside",), "json yaml": ("is_grouped",)},
    "launchers": {},
}  # fmt: skip
"""Keys that only some languages have, by the first words of these languages."""
REQUIRED: Mapping[str, tuple[str, ...]] = {
    "servers": (),
    "hook_settings": ("events", "folders", "file"),
    "launchers": ("folders", "file", "key", "variables"),
}
