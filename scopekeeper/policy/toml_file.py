"""Reads a file of the policy as TOML, and finds the line of each setting. Pure."""

import re
from typing import Any

from scopekeeper.errors import ScopekeeperError


class PolicyError(ScopekeeperError):
    """An invalid policy; names the file and the line."""


def document(path: str, text: str) -> dict[str, Any]:
    """Return what a file has; raises PolicyError if it is no TOML."""
    import tomllib  # slow, and most machines have no file

    try:
        return tomllib.loads(text)
    except RecursionError:
        raise PolicyError(f"{path}: it is nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, or a number that int() refuses
        place = re.search(r"at line (\d+)", str(error))
        number = int(place[1]) if place else text.count("\n") + 1
        what = _bare_text(text, number) or re.sub(r" \(at .*\)$", "", str(error))
        raise PolicyError(f"{path}:{number}: {what}") from None


_BARE = re.compile(r"\s*([A-Za-z0-9_-]+)\s*=\s*([A-Za-z0-9][\w.-]*)\s*(?:#.*)?")


def _bare_text(text: str, number: int) -> str:
    """Return what is wrong if a line gives a text without quotes, else ''."""
    bare = _BARE.fullmatch(text.split("\n")[number - 1])
    if bare is None:
        return ""
    import tomllib

    try:
        tomllib.loads(f"it = {bare[2]}")
    except ValueError:
        return f'a text stands in quotes: {bare[1]} = "{bare[2]}"'
    return ""


_PART = r"""(?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+)"""
_DOTTED = rf"{_PART}(?:\s*\.\s*{_PART})*"
_HEADER = re.compile(rf"\s*\[+\s*({_DOTTED})\s*\]")
_KEY = re.compile(rf"\s*({_DOTTED})\s*=")


def line_of(text: str, *place: str) -> int:
    """Return the line of a setting, or else of the table or key around it."""
    table: tuple[str, ...] = ()
    best, last = 0, 1
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            here = table = _parts(header[1])
        elif key := _KEY.match(line):
            here = (*table, *_parts(key[1]))
        else:
            continue
        if here == place:
            return number
        if here == place[: len(here)] and len(here) >= best:
            best, last = len(here), number
    return last


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in re.findall(_PART, dotted))
