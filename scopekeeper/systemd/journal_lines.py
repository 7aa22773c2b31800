"""Reads lines of units from the journal, by journalctl(1).

systemd's own library would do it without another program, but pystemd has no reader.
"""

import json
import os
import subprocess
from dataclasses import dataclass

from scopekeeper.errors import ManagerError, UnavailableError

_SECONDS = 10
_FIELDS = (
    "MESSAGE", "PRIORITY", "SCOPEKEEPER_SESSION", "SCOPEKEEPER_LABEL", "SCOPEKEEPER_LANE",
    "SCOPEKEEPER_RUN", "SCOPEKEEPER_SCOPE", "SCOPEKEEPER_MEMBER", "SCOPEKEEPER_TEXT",
)  # fmt: skip
_UNIT_FAILED = "d9b373ed55a64feb8242e02dbe79a49c"
"""The message of systemd.unit's catalog about a unit that failed, with its result."""
_MOST_FAILED = 5000
PRIORITIES = ("emerg", "alert", "crit", "error", "warning", "notice", "info", "debug")
"""By number, as in syslog(3)."""


@dataclass(frozen=True, slots=True)
class Line:
    """One entry."""

    at: int
    """Microseconds since the epoch."""
    message: str
    priority: str
    """One of PRIORITIES; '' if it has none."""
    fields: dict[str, str]
    """The fields of scopekeeper's own, without their prefix, in small letters."""


def command(kind: str, unit: str, count: int) -> list[str]:
    """Return the command that prints the last entries of a unit of a manager: system or user."""
    option = "--user-unit" if kind == "user" else "--unit"
    return ["journalctl", "--no-pager", "--quiet", f"{option}={unit}", f"--lines={count}"]


def last(kind: str, unit: str, count: int) -> list[Line]:
    """Return the last entries of a unit, the newest last; raises UnavailableError, ManagerError."""
    entries = _entries([*command(kind, unit, count), f"--output-fields={','.join(_FIELDS)}"])
    return [line for raw in entries if (line := parsed(raw)) is not None]


def of_stream(identifier: str, count: int) -> list[Line]:
    """Return the last lines of this user's streams of that name, the newest last.

    Nobody else can write as this user. Raises UnavailableError, ManagerError.
    """
    argv = ["journalctl", "--no-pager", "--quiet", f"--lines={count}",
            "--output-fields=MESSAGE,PRIORITY"]  # fmt: skip
    matches = [f"SYSLOG_IDENTIFIER={identifier}", "_TRANSPORT=stdout", f"_UID={os.getuid()}"]
    entries = _entries([*argv, *matches])
    return [line for raw in entries if (line := parsed(raw)) is not None]


def timed_out(kind: str) -> dict[str, list[int]]:
    """Return the units of a manager that systemd ended at a time limit in this boot.

    Each with the moments, in microseconds since the epoch. Raises UnavailableError, ManagerError.
    """
    manager = ["_PID=1"] if kind == "system" else [f"_UID={os.getuid()}"]
    name = "UNIT" if kind == "system" else "USER_UNIT"
    argv = ["journalctl", "--no-pager", "--quiet", "--boot", f"--lines={_MOST_FAILED}"]
    matches = [f"MESSAGE_ID={_UNIT_FAILED}", "UNIT_RESULT=timeout", *manager]
    found: dict[str, list[int]] = {}
    for raw in _entries([*argv, f"--output-fields={name}", *matches]):
        try:
            entry = json.loads(raw)
            unit, at = _text(entry[name]), int(entry["__REALTIME_TIMESTAMP"])
        except (ValueError, KeyError, TypeError):
            continue
        found.setdefault(unit, []).append(at)
    return found


def _entries(argv: list[str]) -> list[bytes]:
    argv = [*argv[:1], "--output=json", *argv[1:]]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_SECONDS,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
    except FileNotFoundError:
        raise UnavailableError("journalctl is not installed here", "") from None
    except subprocess.TimeoutExpired:
        raise ManagerError(f"journalctl did not end in {_SECONDS} s") from None
    if done.returncode:
        words = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise ManagerError(f"journalctl failed: {words[0] if words else 'it printed no reason'}")
    return done.stdout.splitlines()


def parsed(raw: bytes) -> Line | None:
    """Read one entry of journalctl's JSON; None if it has no message. Pure."""
    try:
        entry = json.loads(raw)
        at = int(entry["__REALTIME_TIMESTAMP"])
        message = _text(entry["MESSAGE"])
    except (ValueError, KeyError, TypeError):
        return None
    number = _text(entry.get("PRIORITY"))
    fields = {
        name.removeprefix("SCOPEKEEPER_").lower(): _text(value)
        for name, value in entry.items()
        if name.startswith("SCOPEKEEPER_")
    }
    known = dict(zip("01234567", PRIORITIES, strict=True))
    whole = fields.pop("text", "")  # with the names that are short in the message
    return Line(at, whole or message, known.get(number, ""), fields)


def _text(value: object) -> str:
    """Return a field's text: bytes that are no text come as numbers, a long field as null."""
    if isinstance(value, list):
        if all(isinstance(each, int) for each in value):
            return bytes(value).decode("utf-8", "backslashreplace")
        return _text(value[-1]) if value else ""  # a field that the entry has several times
    return value if isinstance(value, str) else ""
