"""Finds the MCP servers of a configuration, and classifies each. Pure."""

import enum
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from scopekeeper.launch.arguments import parse as parse_run
from scopekeeper.mcp_configs import json5, toml, yaml
from scopekeeper.mcp_configs.client_format import Format
from scopekeeper.mcp_configs.document import Pair, ParseError, Value, position
from scopekeeper.mcp_configs.yaml_edit import is_usual, unquoted

PROGRAM = "scopekeeper"
"""The file name of the launcher; a wrapped server is recognised by it."""

_REMOTE_TYPES = frozenset(
    ("http", "sse", "ws", "websocket", "streamable-http", "streamablehttp", "streamable_http",
     "remote")
)  # fmt: skip
_REMOTE_KEYS = ("url", "httpUrl", "serverUrl", "uri", "tcp")
_INCLUDE = "$include"
_OF_SERVER = {"type": str, "command": str | list, "url": str, "enabled": bool, "disabled": bool}
"""Keys of a server with their types; a table of servers has objects there, if anything."""


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
    key: str | int = ""
    """Its key in its table, or its number in a list."""
    inner: tuple[str, ...] = ()
    """The keys down to the object that has command."""
    keys: tuple[str, str] = ("command", "args")
    """The keys of command and args there."""
    is_list: bool = False
    """Whether command is an array of the program and its arguments."""
    block: bool = False
    """Whether that object is a mapping of YAML without brackets."""
    trouble: str = ""
    """Why its text cannot be changed; '' if it can."""
    passed: Pair | None = None
    """The list of variables that its client passes on to it."""

    @property
    def path(self) -> tuple[str | int, ...]:
        """The keys down to the object that has command."""
        return (*self.place, self.key, *self.inner)

    @property
    def table(self) -> dict[str, object]:
        """The object that has command; empty if there is none."""
        data = self.data
        for key in self.inner:
            data = data.get(key) if isinstance(data, dict) else None
        return data if isinstance(data, dict) else {}

    @property
    def words(self) -> list[object]:
        """The program and its arguments; empty if they have no known form."""
        command, args = self.table.get(self.keys[0]), self.table.get(self.keys[1], [])
        if self.is_list:
            return list(command) if isinstance(command, list) else []
        return [command, *args] if isinstance(args, list) and command is not None else []


@dataclass(frozen=True, slots=True)
class Configuration:
    """The content of one text."""

    data: object
    servers: tuple[McpServer, ...]
    notes: tuple[str, ...] = ()
    """Warnings for the user."""


def read(text: str, kind: Format) -> Configuration:
    """Find the servers of a text; raises ParseError, and ConfigError if nothing here reads YAML.

    An empty text has none.
    """
    if not text.strip("\ufeff \t\r\n"):
        return Configuration(None, ())
    if kind.dialect is None:
        data, entries = toml.parse(text)
        return Configuration(data, tuple(_toml_servers(text, data, entries, kind)))
    aliased: frozenset[int] = frozenset()
    if isinstance(kind.dialect, yaml.YamlDialect):
        root, aliased = yaml.parse(text, kind.dialect)
    else:
        root = json5.parse(text, kind.dialect, kind.places)
    finder = _Finder(text, kind, aliased)
    servers = [server for place in kind.places for server in finder.below(root, place, ())]
    return Configuration(root.data, tuple(servers), tuple(finder.notes))


class _Finder:
    """Finds the servers in the values of a text."""

    def __init__(self, text: str, kind: Format, aliased: frozenset[int]) -> None:
        self.text = text
        self.kind = kind
        self.aliased = aliased
        """The offsets of values that another part of the text uses too."""
        self.notes: list[str] = []

    def below(
        self, value: Value, place: tuple[str, ...], path: tuple[str, ...], shared: str = ""
    ) -> Iterator[McpServer]:
        """Follow the keys of place, then yield every server there."""
        is_list = not place and isinstance(value.data, list) and self.kind.named
        if not isinstance(value.data, dict) and not is_list:
            if value.data is not None:
                where = position(self.text, value.start, "\n\r")
                raise ParseError(f"{'.'.join(path) or 'the whole'} is not an object", *where)
            return
        shared = shared or self.shared(value)
        if is_list:
            for number, item in enumerate(value.items):
                yield self.server(item, path, number, shared)
            return
        self.note(value, path)
        if place:
            yield from self.down(value, place, path, shared)
            return
        for member in value.members:
            if not self.is_setting(member, path):
                yield self.server(member.value, path, member.key[0], shared)

    def down(
        self, value: Value, place: tuple[str, ...], path: tuple[str, ...], shared: str
    ) -> Iterator[McpServer]:
        """Yield the servers below the members that the first key of place matches."""
        for member in value.members:
            key, inner = member.key[0], member.value
            any_table = place[0] == "*" and isinstance(inner.data, dict)
            is_server = path in self.kind.places and _looks_like_server(inner.data)
            if (any_table or place[0] == key) and not is_server:
                yield from self.below(inner, place[1:], (*path, key), shared)

    def note(self, value: Value, path: tuple[str, ...]) -> None:
        """Note what a table takes from elsewhere."""
        data = value.data
        if not isinstance(data, dict):
            return
        if _INCLUDE in data and not _is_yaml(self.kind):
            self.notes.append(f"{'.'.join((*path, _INCLUDE))}: included files are not read; give "
                              "them as FILE")  # fmt: skip
        elsewhere = [key for key in data if key not in {each.key[0] for each in value.members}]
        leads = any(place[: len(path)] == path for place in self.kind.places)
        if _is_yaml(self.kind) and path and elsewhere and leads:
            self.notes.append(f"{'.'.join(path)}: {', '.join(elsewhere)}: brought in by an alias, "
                              "and not changed; write them out to wrap them")  # fmt: skip

    def shared(self, value: Value) -> str:
        """Return why a value may not be changed; '' if it may."""
        again = "another part of the file uses it too, by its anchor; write it out there"
        return again if value.start in self.aliased else ""

    def is_setting(self, member: Pair, path: tuple[str, ...]) -> bool:
        """Return whether a member of a table of servers is no server."""
        key, data = member.key[0], member.value.data
        if key == _INCLUDE:
            return not _is_yaml(self.kind)
        deeper = any(place[: len(path) + 1] == (*path, key) for place in self.kind.places)
        return (deeper or key in self.kind.settings) and not _looks_like_server(data)

    def server(
        self, value: Value, place: tuple[str, ...], key: str | int, shared: str
    ) -> McpServer:
        """Return a server, with the places of its command and args in whatever form it has."""
        data = value.data
        name = str(key)
        if isinstance(key, int) and isinstance(data, dict):
            name = str(data.get("name", data.get("uses", key)))
        members = {each.key[0]: each for each in value.members}
        keys, container = (self.kind.command, self.kind.arguments), value
        inner: tuple[str, ...] = ()
        outer = members.get(self.kind.command)
        nested = self.kind.nested
        if nested and outer is not None and isinstance(outer.value.data, dict):
            keys, inner, container = (nested[0], nested[1]), (self.kind.command,), outer.value
            members = {each.key[0]: each for each in container.members}
        is_list = self.kind.command_is_list
        command, args = members.get(keys[0]), None if is_list else members.get(keys[1])
        made = McpServer(place, name, data, command, args, container.members, key, inner, keys,
                         is_list, container.block)  # fmt: skip
        return replace(made, trouble=shared or self.trouble(made, value, container))

    def trouble(self, server: McpServer, value: Value, container: Value) -> str:
        """Return why the text of a YAML server cannot be changed; '' if it can."""
        if not _is_yaml(self.kind):
            return ""
        if shared := self.shared(value) or self.shared(container):
            return shared
        if value.trouble.startswith("an alias"):
            return f"it is {value.trouble}; write it out"
        for key, pair in zip(server.keys, (server.command, server.args), strict=True):
            if pair is None and key in server.table:
                return f"its {key} comes from another part of the file (<<); write it out"
            if pair is not None and pair.value.trouble:
                return f"its {key} is {pair.value.trouble}; write it on one line, without that"
        command, args = server.command, server.args
        if args is not None and args.value.block and not is_usual(self.text, args.value):
            return f"its {server.keys[1]} are not written as one item a line"
        if command is not None and args is not None and not args.value.block:
            return unquoted(self.text, command.value, server.keys[0]) if server.block else ""
        return ""


def _is_yaml(kind: Format) -> bool:
    return isinstance(kind.dialect, yaml.YamlDialect)


def _looks_like_server(data: object) -> bool:
    """Return whether a value has the keys of a server, and is no table of servers."""
    return isinstance(data, dict) and any(
        isinstance(data.get(key), types) for key, types in _OF_SERVER.items()
    )


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
            passed = places.get((*place, name, kind.passes))
            siblings = None
            if command is not None and command.container is not None:
                siblings = command.container.members
            yield McpServer(place, name, server, command.member if command else None,
                         args.member if args else None, siblings, name,
                         passed=passed.member if passed else None)  # fmt: skip


def classify(server: McpServer, kind: Format) -> tuple[ServerState, str]:
    """Return the state of a server, and the reason in a few words, or ''."""
    data = server.data
    if not isinstance(data, dict):
        return ServerState.UNCLEAR, "it is not an object"
    command, args = (server.table.get(key) for key in server.keys)
    if is_wrapped(server):
        return (
            (ServerState.UNCLEAR, server.trouble) if server.trouble else (ServerState.WRAPPED, "")
        )
    for key in ("type", "transport"):
        value = data.get(key)
        if isinstance(value, str) and value.lower() in _REMOTE_TYPES:
            return ServerState.REMOTE, f"its {key} is {value}"
    if server.keys[0] not in server.table:
        remote = [key for key in _REMOTE_KEYS if key in data]
        return (
            (ServerState.REMOTE, f"it has {remote[0]}") if remote else (ServerState.NO_COMMAND, "")
        )
    if problem := _problem(server, kind, command, args):
        return ServerState.UNCLEAR, problem
    if data.get("disabled") is True or data.get("enabled") is False:
        return ServerState.DISABLED, ""
    if kind.refused or server.trouble:
        return ServerState.UNCLEAR, kind.refused or server.trouble
    for path, reason in kind.unchanged:
        if _at(data, path) not in (None, False):
            return ServerState.UNCLEAR, reason
    return ServerState.NOT_WRAPPED, ""


def _problem(server: McpServer, kind: Format, command: object, args: object) -> str:
    """Return what is wrong with the words of a server; '' if nothing is."""
    first = (command[0] if command else "") if isinstance(command, list) else command
    if server.is_list and not isinstance(command, list):
        return "its command is not an array"
    if first == "":
        return f"its {server.keys[0]} is empty"
    if not isinstance(first, str) or isinstance(command, list) != server.is_list:
        return f"its {server.keys[0]} is not a string"
    if not server.is_list and not isinstance(args if args is not None else [], list):
        return f"its {server.keys[1]} are not an array"
    if not server.is_list and args is None and server.keys[1] in server.table:
        return f"its {server.keys[1]} are not an array"
    if first.startswith("~") and not kind.tilde:
        return "its client may not expand ~ in args; write the whole path"
    return ""


def _at(data: object, path: tuple[str, ...]) -> object:
    for key in path:
        data = data.get(key) if isinstance(data, dict) else None
    return data


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


def is_wrapped(server: McpServer) -> bool:
    """Return whether a server starts through ``scopekeeper run``, no matter who wrote that."""
    words = server.words
    return (
        words[1:2] == ["run"]
        and isinstance(words[0], str)
        and PurePosixPath(words[0]).name == PROGRAM
    )


def inner_command(args: list[object]) -> int:
    """Return the index of the server's own command in the args of a wrapped one; 0 if unclear."""
    words = [word if isinstance(word, str) else "?" for word in args]
    parsed = parse_run(words[1:])
    return len(words) - len(parsed[1]) if parsed else 0
