"""Finds running MCP clients, which read their configuration only when they start.

Only for display: nothing is ever ended because of what this finds.
"""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from scopekeeper.clients import known
from scopekeeper.clients.known import Client
from scopekeeper.kernel import proc
from scopekeeper.kernel.usage import command_line

_INTERPRETERS = re.compile(r"node|bun|deno|python[0-9.]*")
_HELPER = "--type="
"""Of Electron: its helpers have the program's name too."""


def running(clients: Iterable[str]) -> dict[str, list[int]]:
    """Return the pids of these clients that run as this user, by the client's title.

    One with another home has other files.
    """
    wanted, uid = set(clients), os.getuid()
    table = known.read([])
    found: dict[str, list[int]] = {}
    for pid in sorted(proc.pids()) if wanted else ():
        try:
            if os.stat(f"/proc/{pid}").st_uid != uid:
                continue
        except OSError:
            continue
        client = client_started_by(command_line(pid) or [], table)
        if client and client.name in wanted and not _has_other_home(pid):
            found.setdefault(client.title, []).append(pid)
    return found


def _has_other_home(pid: int) -> bool:
    try:
        entries = proc.environment(pid).split(b"\0")
    except OSError:
        return False
    home = next((each[5:] for each in entries if each.startswith(b"HOME=")), b"")
    return bool(home) and os.fsdecode(home) != os.environ.get("HOME")


def client_of(words: list[str]) -> str:
    """Return the name of the client that a command line starts; '' if none."""
    client = client_started_by(words, known.read([]))
    return client.name if client else ""


def client_started_by(words: list[str], clients: Sequence[Client]) -> Client | None:
    """Return the client that a command line starts; None if none. Pure."""
    if not words or any(word.startswith(_HELPER) for word in words):
        return None
    # a process that sets its title has one word, with blanks
    name = PurePosixPath(words[0].split(" ", 1)[0]).name
    if _INTERPRETERS.fullmatch(name):
        script = next((word for word in words[1:] if not word.startswith("-")), "")
        for client in clients:
            if any(f"/node_modules/{package}/" in script for package in client.packages):
                return client
        name = PurePosixPath(script).name
        if script and words[words.index(script) - 1] == "-m":
            name = script.partition(".")[0]  # a module of Python
    return next((client for client in clients if name in client.programs), None)
