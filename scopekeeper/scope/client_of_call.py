"""Finds the client of a command that is called, and is not what the client starts."""

import posix

from scopekeeper.kernel.proc import read
from scopekeeper.scope.client import FURTHEST, SHELLS, is_systemd, parent_of, passes_on


def client_of_call() -> str:
    """Return the pid of the nearest ancestor that is neither ``sh -c`` nor a subshell.

    Other than that of a launch, the stdin of such a command says nothing.
    """
    parent = str(posix.getppid() or 1)
    try:
        for _ in range(FURTHEST):
            above = parent_of(parent)
            if not above or is_systemd(above) or not _is_between(parent, above):
                break
            parent = above
    except (OSError, LookupError):
        pass
    return parent


def _is_between(pid: str, parent: str) -> bool:
    """Return whether a process is a shell that runs one command, or a fork of its parent shell."""
    command = read(f"/proc/{pid}/cmdline")
    is_shell = command.partition("\0")[0].rpartition("/")[2].lstrip("-") in SHELLS
    return is_shell and (passes_on(pid) or command == read(f"/proc/{parent}/cmdline"))
