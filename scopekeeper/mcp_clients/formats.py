"""The known clients: where their configurations lie, in which dialect, with the servers where.

A client expands placeholders in both ``command`` and ``args`` (OpenClaw, Claude Code, Cursor, VS
Code, Gemini CLI) or in neither (Claude Desktop, Codex CLI), so a command with a placeholder still
works as an argument. A leading ``~`` is different: only VS Code is known to expand it in both.
"""

import glob
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

from scopekeeper.mcp_clients import json5
from scopekeeper.mcp_clients.document import ParseError
from scopekeeper.mcp_clients.json5 import Dialect


@dataclass(frozen=True, slots=True)
class Format:
    """The configuration format of one client."""

    name: str
    dialect: Dialect | None
    """None for TOML."""
    places: tuple[tuple[str, ...], ...]
    """The keys down to each table of servers; ``*`` matches every key."""
    known: tuple[str, ...] = ()
    """The paths of a user's own files; each starts with a variable and may have wildcards."""
    tilde: bool = False
    """Whether the client expands a leading ``~`` in args as it does in command."""


_SERVERS = ("mcpServers",)
_CONFIG = "$XDG_CONFIG_HOME"

FORMATS = {
    each.name: each
    for each in (
        Format("openclaw", json5.JSON5, (("mcp", "servers"),),
               ("$OPENCLAW_CONFIG_PATH", "$OPENCLAW_STATE_DIR/openclaw.json",
                "$OPENCLAW_HOME/.openclaw/openclaw.json", "$HOME/.openclaw/openclaw.json")),
        Format("claude-desktop", json5.JSON, (_SERVERS,),
               (f"{_CONFIG}/Claude/claude_desktop_config.json",)),
        Format("claude-code", json5.JSON, (_SERVERS, ("projects", "*", "mcpServers")),
               ("$CLAUDE_CONFIG_DIR/.claude.json", "$HOME/.claude.json")),
        Format("cursor", json5.JSONC, (_SERVERS,), ("$HOME/.cursor/mcp.json",)),
        Format("vscode", json5.JSONC, (("servers",),),
               tuple(f"{_CONFIG}/{product}/User/{file}"
                     for product in ("Code", "Code - Insiders", "VSCodium")
                     for file in ("mcp.json", "profiles/*/mcp.json")), tilde=True),
        Format("codex", None, (("mcp_servers",),),
               ("$CODEX_HOME/config.toml", "$HOME/.codex/config.toml")),
        Format("gemini", json5.COMMENTED, (_SERVERS,), ("$HOME/.gemini/settings.json",)),
    )
}  # fmt: skip

PROJECT_FILES = {
    ".mcp.json": "claude-code", ".cursor/mcp.json": "cursor", ".vscode/mcp.json": "vscode",
    ".codex/config.toml": "codex", ".gemini/settings.json": "gemini",
}  # fmt: skip
"""The files in the folder of a project, with their clients."""
_NAMES = {
    "openclaw.json": "openclaw",
    "claude_desktop_config.json": "claude-desktop",
    ".claude.json": "claude-code",
    ".mcp.json": "claude-code",
}
_FOLDERS = {
    ".cursor": "cursor", ".vscode": "vscode", "User": "vscode", ".codex": "codex",
    ".gemini": "gemini",
}  # fmt: skip


def found(environment: Mapping[str, str], client: str | None = None) -> list[tuple[str, Format]]:
    """Return the existing files of a user, for one client or for all, in a fixed order."""
    variables = {name: value for name, value in environment.items() if value}
    if home := variables.get("HOME"):
        variables.setdefault("XDG_CONFIG_HOME", f"{home}/.config")
    files: dict[str, Format] = {}
    for each in FORMATS.values():
        if client in (None, each.name):
            for pattern in each.known:
                variable, _, rest = pattern[1:].partition("/")
                if start := variables.get(variable):
                    path = f"{glob.escape(start)}/{rest}" if rest else glob.escape(start)
                    files.update((name, each) for name in sorted(glob.glob(path)))
    return list(files.items())


def recognise(path: str, text: str) -> Format | None:
    """Return the format of a file by its name, else by its content; None if neither shows it."""
    pure = PurePath(os.path.abspath(path))
    by_name = _NAMES.get(pure.name) or _FOLDERS.get(pure.parent.name)
    if by_name is None and pure.suffix == ".toml":
        by_name = "codex"
    if by_name is None:
        by_name = _by_content(text)
    return FORMATS[by_name] if by_name else None


def _by_content(text: str) -> str | None:
    try:
        data = json5.parse(text, json5.JSON5, ()).data
    except ParseError:
        return None
    if not isinstance(data, dict):
        return None
    mcp = data.get("mcp")
    if isinstance(mcp, dict) and "servers" in mcp:
        return "openclaw"
    if "servers" in data:
        return "vscode"
    if "mcpServers" in data:
        return "claude-code" if "projects" in data else "cursor"
    return "claude-code" if "projects" in data else None
