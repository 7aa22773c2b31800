"""Finds running MCP clients, which read their configuration only when they start.

Only for display: nothing is ever ended because of what this finds.
"""

import os
from collections.abc import Iterable
from pathlib import PurePosixPath

from scopekeeper.kernel import proc
from scopekeeper.kernel.usage import command_line

_TITLES = {
    "openclaw": "OpenClaw", "claude-desktop": "Claude Desktop", "claude-code": "Claude Code",
    "cursor": "Cursor", "vscode": "VS Code", "codex": "Codex CLI", "gemini": "Gemini CLI",
}  # fmt: skip
_PROGRAMS = {
    "openclaw": "openclaw", "openclaw-gateway": "openclaw", "claude-desktop": "claude-desktop",
    "claude": "claude-code", "cursor": "cursor", "code": "vscode", "code-insiders": "vscode",
    "codium": "vscode", "codex": "codex", "gemini": "gemini",
}  # fmt: skip
"""Clients by the name of their program, or of the script that node runs."""
_PACKAGES = {
    "/node_modules/openclaw/": "openclaw", "/node_modules/@google/gemini-cli/": "gemini",
    "/node_modules/@openai/codex/": "codex", "/node_modules/@anthropic-ai/claude-code/":
    "claude-code",
}  # fmt: skip
_INTERPRETERS = ("node", "bun", "deno")
_HELPER = "--type="
"""Of Electron: its helpers have the program's name too."""


def running(clients: Iterable[str]) -> dict[str, list[int]]:
    """Return the pids of these clients that run as this user, by the client's title."""
    wanted, uid = set(clients), os.getuid()
    found: dict[str, list[int]] = {}
    for pid in sorted(proc.pids()) if wanted else ():
        try:
            if os.stat(f"/proc/{pid}").st_uid != uid:
                continue
        except OSError:
            continue
        client = client_of(command_line(pid) or [])
        if client in wanted:
            found.setdefault(_TITLES[client], []).append(pid)
    return found


def client_of(words: list[str]) -> str:
    """Return the client that a command line starts; '' if none. Pure."""
    if not words or any(word.startswith(_HELPER) for word in words):
        return ""
    # a process that sets its title has one word, with blanks
    name = PurePosixPath(words[0].split(" ", 1)[0]).name
    if name in _INTERPRETERS:
        script = next((word for word in words[1:] if not word.startswith("-")), "")
        for folder, client in _PACKAGES.items():
            if folder in script:
                return client
        name = PurePosixPath(script).name
    return _PROGRAMS.get(name, "")
