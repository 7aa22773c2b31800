"""Finds and recognises the configuration files of the known clients."""

import glob
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import PurePath

from scopekeeper.mcp_configs import json5, toml, yaml
from scopekeeper.mcp_configs.client_format import Format
from scopekeeper.mcp_configs.document import ParseError
from scopekeeper.mcp_configs.known_clients import formats

_YAML = (".yaml", ".yml")
_SANDBOX = "/.var/app/"
_REFUSED = "its client runs in a sandbox of flatpak, where there is no scopekeeper"


def found(environment: Mapping[str, str], client: str | None = None) -> list[tuple[str, Format]]:
    """Return the existing files of a user, for one client or for all, in a fixed order."""
    files: dict[str, Format] = {}
    for each in formats().values():
        if client in (None, each.name):
            for name in existing(each.files, environment):
                files.setdefault(name, _at(name, each))
    return list(files.items())


def existing(patterns: Iterable[str], environment: Mapping[str, str]) -> list[str]:
    """Return the existing files of a user for some paths of ``clients.toml``, in their order."""
    variables = {name: value for name, value in environment.items() if value}
    if home := variables.get("HOME"):
        variables.setdefault("XDG_CONFIG_HOME", f"{home}/.config")
        variables.setdefault("XDG_DATA_HOME", f"{home}/.local/share")
    files = []
    for pattern in patterns:
        variable, _, rest = pattern[1:].partition("/")
        if start := variables.get(variable):
            path = f"{glob.escape(start)}/{rest}" if rest else glob.escape(start)
            files += sorted(glob.glob(path))
    return files


def first_folder(patterns: Iterable[str], environment: Mapping[str, str]) -> str:
    """Return the first path whose variable is set, whether it exists or not; '' if none is."""
    for pattern in patterns:
        variable, _, rest = pattern[1:].partition("/")
        if start := environment.get(variable):
            return os.path.join(start, rest) if rest else start
    return ""


def project_names() -> dict[str, Format]:
    """Return the files in the folder of a project, which may have wildcards, with their clients."""
    names: dict[str, Format] = {}
    for each in formats().values():
        for name in each.projects:
            names.setdefault(name, each)
    return names


def recognise(path: str, text: str) -> Format | None:
    """Return the format of a file by its name, else by its content; None if neither shows it.

    Raises ConfigError if nothing here reads YAML.
    """
    pure = PurePath(os.path.abspath(path))
    folder = f"{pure.parent}/"
    clients = formats().values()
    named = [each for each in clients if any(fnmatchcase(pure.name, name) for name in each.names)]
    inside = [each for each in clients if _owns(each, folder, pure.suffix)]
    if named or inside:
        return _at(str(pure), _form((named or inside)[0], text))
    is_yaml = pure.suffix in _YAML
    known = _by_content(_yaml(text) if is_yaml else _json(text), is_yaml=is_yaml)
    return _at(str(pure), known) if known else None


def _owns(client: Format, folder: str, suffix: str) -> bool:
    """Return whether the files in a folder are a client's; JSON is none of YAML's."""
    is_other = suffix == ".json" and isinstance(client.dialect, yaml.YamlDialect)
    return not is_other and any(folder.endswith(f"/{end}/") for end in client.folders)


def is_shared_name(path: str) -> bool:
    """Return whether a file has the name of one that a team shares."""
    clients = formats().values()
    patterns = [name for each in clients for name in (*each.projects, *each.shared)]
    return any(fnmatchcase(path, f"*/{pattern}") for pattern in patterns)


def shapes() -> str:
    """Return where each client has its servers, in words."""
    by_place: dict[str, list[str]] = {}
    for each in formats().values():
        form = " with command as a list" if each.command_is_list else ""
        languages = {True: "YAML", False: "JSON"}
        language = languages[isinstance(each.dialect, yaml.YamlDialect)] if each.dialect else "TOML"
        place = " or ".join(".".join(place) for place in each.places)
        if not place:
            continue
        by_place.setdefault(f"{place}{form} ({language})", []).append(each.name)
    return "; ".join(f"{place}: {', '.join(names)}" for place, names in by_place.items())


def _at(path: str, kind: Format) -> Format:
    """Return the format of a file, which says so if its client cannot start scopekeeper."""
    return replace(kind, refused=_REFUSED) if _SANDBOX in path else kind


def _form(kind: Format, text: str) -> Format:
    """Return a format whose file may be a table of servers, if this text is one."""
    data = _json(text) if kind.flat else None
    servers = list(data.values()) if isinstance(data, dict) else []
    is_flat = all(
        isinstance(each, dict) and ("command" in each or "url" in each) for each in servers
    )
    return replace(kind, places=((),)) if servers and is_flat else kind


def language(path: str) -> str:
    """Return the language of a file that ``recognise`` does not know, by its name."""
    suffix = PurePath(path).suffix
    return "TOML" if suffix == ".toml" else "YAML" if suffix in _YAML else "JSON5"


def check(path: str, text: str) -> None:
    """Raise ParseError if a text is invalid in that language; ConfigError if nothing reads YAML."""
    match language(path):
        case "TOML":
            toml.parse(text)
        case "YAML":
            yaml.parse(text, yaml.YAML)
        case _:
            json5.parse(text, json5.JSON5, ())


def _json(text: str) -> object:
    try:
        return json5.parse(text, json5.JSON5, ()).data
    except ParseError:
        return None


def _yaml(text: str) -> object:
    try:
        return yaml.parse(text, yaml.YAML)[0].data
    except ParseError:
        return None


def _by_content(data: object, *, is_yaml: bool) -> Format | None:
    if not isinstance(data, dict):
        return None
    of_language = [each for each in formats().values() if each.dialect
                   and isinstance(each.dialect, yaml.YamlDialect) == is_yaml]  # fmt: skip
    by_key = [each for each in of_language if any(key in data for key in each.own_keys)]
    by_place = [each for each in of_language if each.by_content and _has_servers(each, data)]
    return next(iter(by_key + by_place), None)


def _has_servers(client: Format, data: object) -> bool:
    """Return whether there are servers where a client has them, in its form; none count too."""
    return any(_is_table(client, _below(data, place)) for place in client.places)


def _below(data: object, place: tuple[str, ...]) -> object:
    for key in place:
        data = data.get(key) if isinstance(data, dict) else None
    return data


def _is_table(client: Format, table: object) -> bool:
    if client.named or not isinstance(table, dict):
        return client.named and isinstance(table, list)
    servers = [each for each in table.values() if isinstance(each, dict)]
    if table and not servers:
        return False
    has_lists = any(isinstance(each.get(client.command), list) for each in servers)
    return has_lists == client.command_is_list
