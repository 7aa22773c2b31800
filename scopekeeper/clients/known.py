"""All that is known of each client: the entries of ``clients.toml``, with a user's files over them.

Not for launches, which read compiled tables: this parses the files, once for each change of them.
"""

import functools
from dataclasses import dataclass
from typing import Any

from scopekeeper.clients import keys, parse
from scopekeeper.clients.compile import BUILT_IN, texts_of
from scopekeeper.clients.format import Row
from scopekeeper.clients.hooks import Hooks
from scopekeeper.clients.parse import ClientsError, Fields
from scopekeeper.clients.variables import FILE
from scopekeeper.policy.files import find_file

Keys = tuple[tuple[str, Any], ...]
"""The keys of a table with their values."""


@dataclass(frozen=True, slots=True)
class Launchers:
    """The variables in a client's settings that can name a program of scopekeeper."""

    folders: tuple[str, ...]
    """The client's own folder; each starts with a variable, and the first that is set counts."""
    file: str
    """The file in that folder, in JSON."""
    key: str
    """The key at its top with the variables."""
    variables: tuple[tuple[str, str], ...]
    """Each variable with the program that it can name."""


@dataclass(frozen=True, slots=True)
class Client:
    """One entry of the table."""

    name: str
    short: str
    """Its other name: that of its sessions and hooks."""
    title: str
    """Its name as people write it."""
    row: Row
    """What launches know of it."""
    is_looked_for: bool
    """Whether launches know it."""
    packages: tuple[str, ...]
    """Its packages in node_modules."""
    bash: str
    """How to have it use a folder with a ``bash``: ``{bash}``, ``{folder}`` and ``{user}`` are
    placeholders. '' if it cannot."""
    hooks: Hooks | None
    """What its hooks are about; None if it has none."""
    servers: Keys | None
    """Those of ``[NAME.servers]``; None if its servers are in no file."""
    hook_settings: Keys | None
    """Those of ``[NAME.hook_settings]``; None if its hooks are not registered."""
    launchers: Launchers | None
    is_own: bool
    """Whether only a user's file has it."""

    @property
    def programs(self) -> tuple[str, ...]:
        """The file names of its program, or of the script that an interpreter runs."""
        return self.row[1]

    @property
    def prefix(self) -> str:
        """What is before a colon in the names of its sessions."""
        return self.row[4]


def read(warnings: list[str]) -> tuple[Client, ...]:
    """Return all clients, with the files of this user over the built-in table.

    An invalid or foreign file becomes a warning.
    """
    found = find_file(FILE, "the table of clients")
    warnings += found.ignored
    try:
        return _read((BUILT_IN, *found.sources), found.signature)
    except ClientsError as error:
        warnings.append(f"{error}; only the built-in table of clients applies")
        return built_in()


def built_in() -> tuple[Client, ...]:
    """Return the clients of the built-in table."""
    return _read((BUILT_IN,), "")


def named(word: str, clients: tuple[Client, ...]) -> Client | None:
    """Return the client with this name or short name; None if there is none."""
    by_name = (each for each in clients if each.name == word)
    return next(by_name, None) or next((each for each in clients if each.short == word), None)


@functools.lru_cache(maxsize=4)
def _read(sources: tuple[str, ...], signature: str) -> tuple[Client, ...]:  # noqa: ARG001
    """Parse files; the signature changes with them. Raises ClientsError."""
    merged = parse.merge(texts_of(list(sources)))
    shipped = set(merged) if len(sources) == 1 else {each.name for each in built_in()}
    return tuple(_client(name, merged, is_own=name not in shipped) for name in merged)


def _client(name: str, merged: dict[str, Fields], *, is_own: bool) -> Client:
    fields = merged[name]
    hooks, launchers = fields.get(parse.HOOKS), fields.get("launchers")
    return Client(
        name, parse.short_of(name, fields), fields.get("title", name), parse.row_of(name, fields),
        parse.is_looked_for(fields), fields.get("packages", ()), fields.get("bash", ""),
        None if hooks is None else Hooks(**hooks), _servers(fields.get("servers"), merged),
        _keys(fields.get("hook_settings")),
        None if launchers is None else Launchers(**launchers), is_own,
    )  # fmt: skip


def _keys(fields: Fields | None) -> Keys | None:
    return None if fields is None else tuple(fields.items())


def _servers(servers: Fields | None, merged: dict[str, Fields]) -> Keys | None:
    """Return the keys of servers with the user folders of other clients in their paths."""
    if servers is None:
        return None
    return tuple(
        (key, _expanded(value, merged) if key in ("files", "workspaces") else value)
        for key, value in servers.items()
        if key != "user_folders"
    )


def _expanded(paths: tuple[str, ...], merged: dict[str, Fields]) -> tuple[str, ...]:
    found: list[str] = []
    for path in paths:
        client = keys.client_in(path)
        folders = parse.folders_of(client, merged) if client else ()
        rest = path.partition("}")[2]
        found += [f"{folder}{rest}" for folder in folders] if client else [path]
    return tuple(found)
