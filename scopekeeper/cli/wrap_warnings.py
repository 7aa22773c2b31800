"""What ``wrap`` warns of: servers that may not start, and files that it does not rewrite."""

import os
import shlex
from collections.abc import Iterator, Sequence

from scopekeeper.cli.configs import RewrittenFile
from scopekeeper.mcp_configs.doubts import doubts
from scopekeeper.mcp_configs.git import is_shared
from scopekeeper.mcp_configs.program import launcher_path, not_usual
from scopekeeper.mcp_configs.rewrap import update_command
from scopekeeper.mcp_configs.servers import PROGRAM, ServerState


def warnings(done: Sequence[RewrittenFile], *, update: bool, program: str | None) -> Iterator[str]:
    """Yield a sentence for each problem of files that were rewritten.

    program is the launcher that the caller wants; None for the usual one.
    """
    for each in done:
        changed = [outcome for outcome in each.outcomes if outcome.changed]
        if changed and is_shared(each.path, os.environ):
            needs = program if program and "/" in program else f"{PROGRAM} in PATH"
            yield (f"{each.path} is in a git work tree: everybody who uses it needs {needs}, or "
                   "cannot start its servers")  # fmt: skip
        for outcome in changed:
            if not outcome.updated:
                yield from (f"{each.path}: {outcome.name}: {text}" for text in doubts(outcome))
        differ = [outcome.name for outcome in each.outcomes if outcome.differs]
        if differ and not update:
            yield (f"{each.path}: {', '.join(differ)}: wrapped already, with other options, which "
                   "stay; to change them: add --update")  # fmt: skip


def launchers_not_usual(done: Sequence[RewrittenFile]) -> Iterator[str]:
    """Yield a sentence for each file whose launcher only some clients find."""
    for each in done:
        bare = [
            o for o in each.outcomes if o.state is ServerState.WRAPPED and o.launcher == PROGRAM
        ]
        if bare and (reason := not_usual()):
            path = launcher_path()
            link = f"`sudo ln -s {shlex.quote(path)} /usr/local/bin/`"
            update = f"`{update_command(each.path, bare, path)}`"
            yield f"{each.path}: {reason}; link it there: {link}, or write its path: {update}"
