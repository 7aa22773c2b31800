"""The commands that give wrapped servers another launcher."""

import os
import shlex
from collections.abc import Callable, Sequence

from scopekeeper.mcp_configs.git import is_shared
from scopekeeper.mcp_configs.program import launcher_path
from scopekeeper.mcp_configs.wrap import WrapOutcome


def update_command(path: str, servers: Sequence[WrapOutcome], program: str = "") -> str:
    """Return the command that gives servers of a file another launcher, with the same options.

    If their options differ, it is for the first one.
    """
    words = ["scopekeeper", "wrap", "--update"]
    first = servers[0]
    if any(each.options != first.options for each in servers):
        words += ["--only", shlex.quote(first.name)]
    if program:
        words += ["--program", shlex.quote(program)]
    return " ".join([*words, shlex.quote(path), *first.options])


def remedy_for(path: str, outcomes: Sequence[WrapOutcome]) -> Callable[[WrapOutcome], str]:
    """Return a function that returns what mends a server whose launcher is missing."""
    wrapped = [each for each in outcomes if each.program]

    def remedy(server: WrapOutcome) -> str:
        if "/" not in server.program and is_shared(path, os.environ):
            return f"`sudo ln -s {shlex.quote(launcher_path())} /usr/local/bin/`"
        others = [each for each in wrapped if each is not server]
        return f"`{update_command(path, [server, *others])}`"

    return remedy
