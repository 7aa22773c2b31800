"""Recognises a gateway by the ``ExecStart=`` of its unit. Pure."""

import os
import re
import shlex
from collections.abc import Iterator, Sequence

from scopekeeper.mcp_configs.running import client_of
from scopekeeper.mcp_configs.servers import PROGRAM, inner_command

OURS = "scopekeeper"
"""It starts ``scopekeeper run``."""
_LINE = re.compile(r"(?m)^[ \t]*ExecStart[ \t]*=[ \t]*(.*?)[ \t]*$")
_PREFIXES = "@-:+!|"
_SHELLS = ("sh", "bash", "dash", "zsh", "fish", "ash")
_WRAPPERS = (
    "env", "nice", "ionice", "chrt", "setsid", "nohup", "stdbuf", "timeout", "sudo", "doas",
    "runuser", "setpriv", "dbus-run-session", "systemd-inhibit", "xvfb-run", "exec", "command",
)  # fmt: skip
"""Programs that start the command in their arguments."""
_OF_NODE = ("npx", "bunx", "npm", "pnpm", "yarn", "bun")
_OF_PYTHON = ("uvx", "uv", "pipx", "poetry")
"""Programs that start a package by its name."""
_ELSEWHERE = ("--placement", "--lifetime")
"""Options of ``run`` with which the scope may lie outside of the service."""
_LONGEST = 500
"""Characters of a command that is printed."""
_NEAR = 6
"""The most words of a wrapper before its command."""
_OPTION_C = re.compile(r"-[a-z]*c")
_BETWEEN = re.compile(r"&&|\|\||[;|&\n]")


def commands(text: str) -> list[list[str]]:
    """Return the commands of a unit's text, its drop-ins after it; an empty line resets them."""
    found: list[list[str]] = []
    for line in _lines_of(text):
        try:
            words = shlex.split(line.lstrip(_PREFIXES))
        except ValueError:
            continue
        if line[:1] in _PREFIXES and "@" in line[: len(line) - len(line.lstrip(_PREFIXES))]:
            del words[1:2]  # the name that the process gets
        if words:
            found.append(words)
    return found


def _lines_of(text: str) -> list[str]:
    """Return the values of ``ExecStart=`` that count."""
    found: list[str] = []
    for line in _LINE.findall(text.replace("\\\n", " ")):
        found = [*found, line] if line else []
    return found


def is_run(words: list[str]) -> bool:
    """Return whether a command is ``scopekeeper run`` itself, and so is the main process.

    With ``Delegate=``, its scope lies in the service's own cgroup, unless an option puts it
    elsewhere.
    """
    if not words or os.path.basename(words[0]) != PROGRAM or words[1:2] != ["run"]:
        return False
    at = inner_command([*words[1:]])
    return at > 0 and not any(each.startswith(_ELSEWHERE) for each in words[2 : at + 1])


def in_scope(text: str, program: str) -> str:
    """Return the value of ``ExecStart=`` that starts a unit's command by ``scopekeeper run``.

    program is our own path, as a unit has it. What cannot be read is COMMAND.
    """
    lines = _lines_of(text)
    line = lines[0] if len(lines) == 1 and len(lines[0]) <= _LONGEST else ""
    own = line.lstrip(_PREFIXES)
    prefixes = line[: len(line) - len(own)]
    if not own or "@" in prefixes:  # the name that the process gets
        prefixes, own = "", "COMMAND"
    elif any(gateway_of(each) == OURS for each in commands(text)):
        return line
    return f"{prefixes}{program} run -n gateway -- {own}"


def gateway_of(words: Sequence[str], depth: int = 4) -> str:
    """Return the client that a command starts, OURS for scopekeeper; '' if it starts neither."""
    if not words or not depth:
        return ""
    name, rest = os.path.basename(words[0]), words[1:]
    if name == PROGRAM and rest[:1] == ["run"]:
        return OURS
    if client := client_of(list(words)):
        return client
    if name in _SHELLS:
        lines = _lines(rest)
        return next((found for line in lines if (found := gateway_of(line, depth - 1))), "")
    if name in (*_OF_NODE, *_OF_PYTHON):
        near = [each for each in rest[:_NEAR] if not each.startswith("-")]
        packages = (each[:1] + each[1:].partition("@")[0] for each in near)  # without a version
        known = (client_of(_words(name, each)) for each in packages)
        return next((client for client in known if client), "")
    if name in _WRAPPERS:
        for at in range(min(len(rest), _NEAR)):
            if "=" not in rest[at] and (found := gateway_of(rest[at:], depth - 1)):
                return found
    return ""


def _words(runner: str, package: str) -> list[str]:
    """Return the command line that a runner makes of a package."""
    return ["node", f"/node_modules/{package}/cli.js"] if runner in _OF_NODE else [package]


def _lines(words: Sequence[str]) -> Iterator[list[str]]:
    """Yield the commands of ``sh -c``, without the assignments before them."""
    at = next((at for at, word in enumerate(words) if _OPTION_C.fullmatch(word)), len(words))
    for piece in (piece for word in words[at + 1 : at + 2] for piece in _BETWEEN.split(word)):
        try:
            line = shlex.split(piece)
        except ValueError:
            continue
        while line and re.match(r"[A-Za-z_]\w*=", line[0]):
            del line[0]
        if line:
            yield line
