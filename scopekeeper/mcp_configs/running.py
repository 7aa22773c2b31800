"""Finds running MCP clients, which read their configuration only when they start.

Only for display: nothing is ever ended because of what this finds.
"""

import os
import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from scopekeeper.kernel import proc
from scopekeeper.kernel.usage import command_line
from scopekeeper.mcp_configs.known_clients import CLIENTS

_TITLES = {each.name: each.title for each in CLIENTS}
_PROGRAMS = {program: each.name for each in CLIENTS for program in each.programs}
"""Clients by the name of their program, or of the script that an interpreter runs."""
_PACKAGES = {f"/node_modules/{package}/": each.name for each in CLIENTS
             for package in each.packages}  # fmt: skip
_INTERPRETERS = re.compile(r"node|bun|deno|python[0-9.]*")
_HELPER = "--type="
"""Of Electron: its helpers have the program's name too."""


def running(clients: Iterable[str]) -> dict[str, list[int]]:
    """Return the pids of these clients that run as this user, by the client's title.

    One with another home has other files.
    """
    wanted, uid = set(clients), os.getuid()
    found: dict[str, list[int]] = {}
    for pid in sorted(proc.pids()) if wanted else ():
        try:
            if os.stat(f"/proc/{pid}").st_uid != uid:
                continue
        except OSError:
            continue
        client = client_of(command_line(pid) or [])
        if client in wanted and not _has_other_home(pid):
            found.setdefault(_TITLES[client], []).append(pid)
    return found


def _has_other_home(pid: int) -> bool:
    try:
        entries = proc.environment(pid).split(b"\0")
    except OSError:
        return False
    home = next((each[5:] for each in entries if each.startswith(b"HOME=")), b"")
    return bool(home) and os.fsdecode(home) != os.environ.get("HOME")


def client_of(words: list[str]) -> str:
    """Return the client that a command line starts; '' if none. Pure."""
    if not words or any(word.startswith(_HELPER) for word in words):
        return ""
    # a process that sets its title has one word, with blanks
    name = PurePosixPath(words[0].split(" ", 1)[0]).name
    if _INTERPRETERS.fullmatch(name):
        script = next((word for word in words[1:] if not word.startswith("-")), "")
        for folder, client in _PACKAGES.items():
            if folder in script:
                return client
        name = PurePosixPath(script).name
        if script and words[words.index(script) - 1] == "-m":
            name = script.partition(".")[0]  # a module of Python
    return _PROGRAMS.get(name, "")
