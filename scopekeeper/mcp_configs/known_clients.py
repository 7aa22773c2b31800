"""The formats of the known clients: of each entry of ``clients.toml``, those of the user first.

A new client needs an entry there, and nothing here.
"""

import functools
from collections.abc import Mapping
from typing import Any

from scopekeeper.clients import known as table
from scopekeeper.clients.known import Client
from scopekeeper.mcp_configs import json5, yaml
from scopekeeper.mcp_configs.client_format import Format
from scopekeeper.mcp_configs.hook_format import HookFormat
from scopekeeper.mcp_configs.json5 import Dialect
from scopekeeper.mcp_configs.yaml import YamlDialect

_DIALECTS: Mapping[str, Dialect | YamlDialect | None] = {
    "json": json5.JSON, "json with comments": json5.COMMENTED, "jsonc": json5.JSONC,
    "json5": json5.JSON5, "toml": None, "yaml": yaml.YAML, "yaml 1.1": yaml.YAML_1_1,
}  # fmt: skip
_PLACES = (("mcpServers",),)


def formats() -> dict[str, Format]:
    """Return the format of each client that has files, by its name.

    An invalid table of the user does not count.
    """
    return dict(_formats(table.read([])))


def built_in() -> dict[str, Format]:
    """Return those of the built-in table."""
    return dict(_formats(table.built_in()))


def problems() -> list[str]:
    """Return a sentence for each file of this user that does not count."""
    warnings: list[str] = []
    table.read(warnings)
    return warnings


def client_named(word: str) -> Format | None:
    """Return the format of the client with this name or short name; None if there is none."""
    found = table.named(word, table.read([]))
    return formats().get(found.name) if found else None


@functools.lru_cache(maxsize=4)
def _formats(clients: tuple[Client, ...]) -> Mapping[str, Format]:
    with_files = (each for each in clients if each.servers or each.hook_settings)
    # a user's own entry is the more specific one: it is recognised before all others
    ordered = sorted(with_files, key=lambda each: not each.is_own)
    return {each.name: _format(each) for each in ordered}


def _format(client: Client) -> Format:
    found = dict(client.servers or ())
    places = found.pop("places", _PLACES) if found else ()
    return Format(
        client.name, _dialect(found), places, title=client.title, programs=client.programs,
        packages=client.packages, hooks=_hooks(client), **found,
    )  # fmt: skip


def _dialect(fields: dict[str, Any]) -> Dialect | YamlDialect | None:
    return _DIALECTS[fields.pop("language", "json")]


def _hooks(client: Client) -> HookFormat | None:
    if client.hook_settings is None:
        return None
    found = dict(client.hook_settings)
    return HookFormat(client.short, dialect=_dialect(found), **found)
