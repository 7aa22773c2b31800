"""Finds servers that are wrapped: they do not start once scopekeeper is removed."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scopekeeper.cli.configs import rewrite_files
from scopekeeper.cli.show import safe_json
from scopekeeper.mcp_configs.client_format import Format
from scopekeeper.mcp_configs.formats import found
from scopekeeper.mcp_configs.other_files import project_files
from scopekeeper.mcp_configs.servers import ServerState
from scopekeeper.mcp_configs.wrap import Selection, look

_COMMAND = "scopekeeper unwrap"


@dataclass(frozen=True, slots=True)
class WrappedFile:
    """A file with servers that are wrapped."""

    path: str
    servers: tuple[str, ...]
    command: str
    """The command that unwraps them."""


def wrapped_files() -> list[WrappedFile]:
    """Return the user's own files with such servers."""
    return _wrapped(found(os.environ), own=True)


def wrapped_project_files(client: str | None = None) -> list[WrappedFile]:
    """Return the files of projects with such servers."""
    projects = project_files(os.environ, client)
    return _wrapped([(each.path, each.kind) for each in projects], own=False)


def _wrapped(targets: Sequence[tuple[str, Format]], *, own: bool) -> list[WrappedFile]:
    done = rewrite_files(targets, lambda _, text, kind: look(text, kind, Selection()), write=False)
    wrapped = [
        (each.path, tuple(o.name for o in each.outcomes if o.state is ServerState.WRAPPED))
        for each in done
    ]
    return [
        WrappedFile(path, servers, _COMMAND if own else f"{_COMMAND} {shlex.quote(path)}")
        for path, servers in wrapped
        if servers
    ]


def sentences(files: Sequence[WrappedFile]) -> list[str]:
    """Return a sentence for the files of each command."""
    by_command: dict[str, list[WrappedFile]] = {}
    for each in files:
        by_command.setdefault(each.command, []).append(each)
    texts = []
    for command, those in by_command.items():
        number = sum(len(each.servers) for each in those)
        are = "1 server is" if number == 1 else f"{number} servers are"
        where = ", ".join(each.path for each in those)
        texts.append(f"{are} still wrapped in {where}; run `{command}`")
    return texts


def documents(files: Sequence[WrappedFile]) -> list[dict[str, Any]]:
    """Return the JSON objects of files."""
    return [
        {"path": safe_json(each.path), "servers": list(each.servers),
         "command": safe_json(each.command)}
        for each in files
    ]  # fmt: skip
