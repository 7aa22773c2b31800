"""Checks that the launchers of wrapped MCP servers exist: a client cannot start one without."""

import os
from collections.abc import Iterator

from scopekeeper.doctor.finding import Finding, Status
from scopekeeper.errors import ConfigError
from scopekeeper.mcp_configs import files
from scopekeeper.mcp_configs.client_format import Format
from scopekeeper.mcp_configs.document import ParseError
from scopekeeper.mcp_configs.formats import found
from scopekeeper.mcp_configs.launcher_settings import settings
from scopekeeper.mcp_configs.other_files import project_files
from scopekeeper.mcp_configs.program import is_missing
from scopekeeper.mcp_configs.rewrap import remedy_for
from scopekeeper.mcp_configs.wrap import Selection, WrapOutcome, look


def launchers() -> Iterator[Finding]:
    """Check the launchers in this user's files and in those of projects; nothing if none is there.

    A file that cannot be read is skipped: ``wrap --check`` reports it.
    """
    projects = [(each.path, each.kind) for each in project_files(os.environ)]
    number, gone = 0, False
    for path, kind in [*found(os.environ), *projects]:
        wrapped = _wrapped(path, kind)
        number += len(wrapped)
        missing = [each for each in wrapped if is_missing(each.program)]
        if missing:
            gone = True
            names = ", ".join(each.name for each in missing)
            yield Finding(
                "servers", Status.LIMIT,
                f"{path}: {names}: there is no {missing[0].program}, so that they do not start",
                remedy_for(path, wrapped)(missing[0]).strip("`"),
            )  # fmt: skip
    if number and not gone:
        yield Finding("servers", Status.OK, f"the launcher of each wrapped server exists: {number}")


def in_settings() -> Iterator[Finding]:
    """Check the programs of ours that clients' settings name; nothing if there is none."""
    for each in settings(os.environ):
        if each.is_missing:
            yield Finding(
                "servers", Status.LIMIT,
                f"{each.path}: there is no {each.program} ({each.variable}): {each.client.title} "
                "does not start its commands through it",
                f"remove {each.variable} from the file, or install scopekeeper again",
            )  # fmt: skip
        else:
            detail = f"{each.path}: {each.variable} contains what {each.client.title} starts"
            yield Finding("servers", Status.OK, detail)


def _wrapped(path: str, kind: Format) -> list[WrapOutcome]:
    try:
        outcomes = look(files.read(path).text(), kind, Selection()).outcomes
    except (ParseError, ConfigError):
        return []
    return [each for each in outcomes if each.program]
