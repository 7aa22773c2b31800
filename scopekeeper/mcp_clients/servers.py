"""Finds the MCP servers of a configuration, and classifies each. Pure."""

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from scopekeeper.launch.arguments import parse as parse_run
from scopekeeper.mcp_clients import json5, toml
from scopekeeper.mcp_clients.document import Pair, ParseError, Value, position
from scopekeeper.mcp_clients.formats import Format

PROGRAM = "scopekeeper"
"""The file name of the launcher; a wrapped server is recognised by it."""

_REMOTE_TYPES = frozenset(
    ("http", "sse", "ws", "websocket", "streamable-http", "streamablehttp", "streamable_http")
)
_REMOTE_KEYS = ("url", "httpUrl", "serverUrl", "tcp")
_INCLUDE = "$include"


class ServerState(enum.StrEnum):
    """Whether a server is, or can be, contained."""

    WRAPPED = "wrapped"
    NOT_WRAPPED = "not wrapped"
    REMOTE = "remote"
    """No process is started for it."""
    DISABLED = "disabled"
    NO_COMMAND = "no command"
    UNCLEAR = "unclear"
    """The client may start it, in a way that ``wrap`` cannot change safely."""
    NO_LAUNCHER = "launcher missing"
    """It is wrapped, by a launcher that does not exist: the client cannot start it."""
    LEFT_OUT = "left out"
    """Not selected by the caller."""


@dataclass(frozen=True, slots=True)
class McpServer:
    """One server, with the places of its command and args."""

    place: tuple[str, ...]
    """The keys of its table."""
    name: str
    data: object
    command: Pair | None
    args: Pair | None
    siblings: tuple[Pair, ...] | None
    """The members of the object that has command; None if they are lines of TOML."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """The content of one text."""

    data: object
    servers: tuple[McpServer, ...]
    notes: tuple[str, ...] = ()
    """Warnings for the user."""


def read(text: str, kind: Format) -> Configuration:
    """Find the servers of a text; raises ParseError. An empty text has none."""
    if not text.strip("\ufeff \t\r\n"):
        return Configuration(None, ())
    if kind.dialect is None:
        data, entries = toml.parse(text)
        return Configuration(data, tuple(_toml_servers(text, data, entries, kind)))
    root = json5.parse(text, kind.dialect, kind.places)
    servers: list[McpServer] = []
    notes: list[str] = []
    for place in kind.places:
        servers += _json_servers(text, root, place, (), notes)
    return Configuration(root.data, tuple(servers), tuple(notes))


def _json_servers(
    text: str, value: Value, place: tuple[str, ...], path: tuple[str, ...], notes: list[str]
) -> Iterator[McpServer]:
    """Follow the keys of place, then yield every server there."""
    if not isinstance(value.data, dict):
        if value.data is not None:
            where = position(text, value.start, "\n\r")
            raise ParseError(f"{'.'.join(path) or 'the whole'} is not an object", *where)
        return
    if _INCLUDE in value.data:
        notes.append(f"{'.'.join((*path, _INCLUDE))}: included files are not read; give them as "
                     "FILE")  # fmt: skip
    if place:
        for member in value.members:
            any_table = place[0] == "*" and isinstance(member.value.data, dict)
            if any_table or place[0] == member.key[0]:
                yield from _json_servers(
                    text, member.value, place[1:], (*path, member.key[0]), notes
                )
        return
    for member in value.members:
        if member.key[0] != _INCLUDE:
            inner = {each.key[0]: each for each in member.value.members}
            yield McpServer(path, member.key[0], member.value.data, inner.get("command"),
                         inner.get("args"), member.value.members)  # fmt: skip


def _toml_servers(
    text: str, data: dict[str, object], entries: list[toml.TomlEntry], kind: Format
) -> Iterator[McpServer]:
    places = {entry.full: entry for entry in entries}
    for place in kind.places:
        table: object = data
        for key in place:
            table = table.get(key, {}) if isinstance(table, dict) else None
        if not isinstance(table, dict):
            at = places[place].member.value.start if place in places else 0
            raise ParseError(f"{'.'.join(place)} is not a table", *position(text, at))
        for name, server in table.items():
            command = places.get((*place, name, "command"))
            args = places.get((*place, name, "args"))
            siblings = None
            if command is not None and command.container is not None:
                siblings = command.container.members
            yield McpServer(place, name, server, command.member if command else None,
                         args.member if args else None, siblings)  # fmt: skip


def classify(server: McpServer, kind: Format) -> tuple[ServerState, str]:
    """Return the state of a server, and the reason in a few words, or ''."""
    data = server.data
    if not isinstance(data, dict):
        return ServerState.UNCLEAR, "it is not an object"
    command, args = data.get("command"), data.get("args", [])
    if is_wrapped(data):
        return ServerState.WRAPPED, ""
    for key in ("type", "transport"):
        value = data.get(key)
        if isinstance(value, str) and value.lower() in _REMOTE_TYPES:
            return ServerState.REMOTE, f"its {key} is {value}"
    if "command" not in data:
        remote = [key for key in _REMOTE_KEYS if key in data]
        return (
            (ServerState.REMOTE, f"it has {remote[0]}") if remote else (ServerState.NO_COMMAND, "")
        )
    if not isinstance(command, str) or not command:
        return ServerState.UNCLEAR, "its command is not a string"
    if not isinstance(args, list):
        return ServerState.UNCLEAR, "its args are not an array"
    if command.startswith("~") and not kind.tilde:
        return ServerState.UNCLEAR, "its client may not expand ~ in args; write the whole path"
    if data.get("disabled") is True or data.get("enabled") is False:
        return ServerState.DISABLED, ""
    return ServerState.NOT_WRAPPED, ""


def holds(text: str, backup: bytes, kind: Format) -> bool:
    """Return whether a text has every server of a backup, with the same values."""
    try:
        now, before = (
            {(each.place, each.name): each.data for each in read(one, kind).servers}
            for one in (text, backup.decode())
        )
    except ValueError:  # a ParseError, or not UTF-8
        return False
    return all(key in now and now[key] == data for key, data in before.items())


def is_wrapped(data: dict[str, object]) -> bool:
    """Return whether a server starts through ``scopekeeper run``, no matter who wrote that."""
    command, args = data.get("command"), data.get("args")
    return (
        isinstance(command, str)
        and PurePosixPath(command).name == PROGRAM
        and isinstance(args, list)
        and args[:1] == ["run"]
    )


def inner_command(args: list[object]) -> int:
    """Return the index of the server's own command in the args of a wrapped one; 0 if unclear."""
    words = [word if isinstance(word, str) else "?" for word in args]
    parsed = parse_run(words[1:])
    return len(words) - len(parsed[1]) if parsed else 0
