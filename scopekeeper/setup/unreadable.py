"""Words for a file of a client that cannot be used: which one, where in it, and why."""

import shlex

from scopekeeper.errors import ConfigError
from scopekeeper.mcp_configs.document import ParseError
from scopekeeper.setup.step import Machine


def reason(machine: Machine, path: str, error: ParseError | ConfigError) -> str:
    """Return the file, the place in it and the reason, as one clause."""
    if isinstance(error, ParseError):
        return f"{machine.short(path)}:{error.line}:{error.column}: {error.message}"
    return named(machine, path, error.message)


def named(machine: Machine, path: str, problem: str) -> str:
    """Return a problem of a file with the file before it, as people write it."""
    if problem.startswith(path):
        return machine.short(path) + problem.removeprefix(path)
    return f"{machine.short(path)}: {problem}"


def corrected(path: str, command: str) -> str:
    """Return what to do: a command that works once the file is as its client wants it."""
    return f"correct {shlex.quote(path)}, then: {command}"
