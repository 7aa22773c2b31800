"""Finds files that ``wrap`` does not rewrite unasked: those of projects and plugins."""

import glob
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from scopekeeper.clients.code import module
from scopekeeper.mcp_configs.client_format import Format
from scopekeeper.mcp_configs.formats import existing, found, project_names
from scopekeeper.mcp_configs.known_clients import formats
from scopekeeper.mcp_configs.projects import project_folders, read_object


@dataclass(frozen=True, slots=True)
class OtherFile:
    """A file with servers, beside the user's own files."""

    path: str
    kind: Format
    remedy: str
    """What contains its servers."""
    is_projects: bool = False
    """Whether it is in the folder of a project, where ``wrap FILE`` may rewrite it."""


def project_files(environment: Mapping[str, str], client: str | None = None) -> list[OtherFile]:
    """Return the files of projects that exist, for one client or for all.

    A project is the current folder, its git work tree, and what a client has opened.
    """
    seen = {os.path.realpath(path) for path, _ in found(environment)}
    names = project_names()
    files = []
    for folder in project_folders(environment):
        for name, kind in names.items():
            for path in sorted(glob.glob(f"{glob.escape(folder)}/{name}")):
                real = os.path.realpath(path)
                if client in (None, kind.name) and real not in seen and os.path.isfile(real):
                    seen.add(real)
                    remedy = f"`scopekeeper wrap {shlex.quote(path)}`"
                    files.append(OtherFile(path, kind, remedy, is_projects=True))
    return files


def plugin_files(environment: Mapping[str, str], client: str | None = None) -> list[OtherFile]:
    """Return the files of plugins that exist, for one client or for all."""
    return [
        each
        for kind in formats().values()
        if client in (None, kind.name)
        for each in (*_named_in_table(kind, environment), *_found_by_code(kind, environment))
    ]


def _named_in_table(kind: Format, environment: Mapping[str, str]) -> Iterator[OtherFile]:
    for word, pattern in kind.plugins:
        for path in existing([pattern], environment):
            if any(read_object(path).get(place[0]) for place in kind.places):
                name = os.path.basename(os.path.dirname(path))
                yield OtherFile(path, kind, _around(kind, f"{word} {name}"))


def _found_by_code(kind: Format, environment: Mapping[str, str]) -> Iterator[OtherFile]:
    code = module(kind.name, "plugins")
    for each in code.plugins(environment, read_object) if code else ():
        form = replace(kind, places=((),)) if each.is_flat else kind
        yield OtherFile(each.path, form, _around(kind, f"plugin {each.name}"))


def _around(kind: Format, plugin: str) -> str:
    program = kind.programs[0] if kind.programs else kind.name
    return (
        f"it belongs to {kind.title}'s {plugin}, whose update replaces it: start the client "
        f"contained, by `scopekeeper run -n {program} -- {program}`"
    )
