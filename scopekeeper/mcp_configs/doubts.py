"""Finds servers that do not start as they are written, wrapped or not."""

import re
import shlex
import shutil
from collections.abc import Iterator

from scopekeeper.mcp_configs.wrap import WrapOutcome

_SEPARATORS = {"/", "\\"}
_BLANKS = re.compile(r"\S\s+\S")


def doubts(server: WrapOutcome) -> Iterator[str]:
    """Yield what is wrong with the command and args of a server that was not wrapped before."""
    command = server.command
    if _BLANKS.search(command) and not shutil.which(command):
        program = command.split(maxsplit=1)[0]
        # else it may be a path with blanks, and not there yet
        if not _SEPARATORS & set(program) or shutil.which(program):
            yield (f"there is no program {shlex.quote(command)}: a command has no arguments; write "
                   "each as a word of its own")  # fmt: skip
    if server.odd_args:
        odd = ", ".join(server.odd_args)
        yield f"not a string in its args, so that its client may refuse it: {odd}"
