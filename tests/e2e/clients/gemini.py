"""Gemini CLI."""

import json
from pathlib import Path
from types import MappingProxyType

from tests.e2e.packages import NODE, Package, install
from tests.lab.host import Note
from tests.machine import children_of

from .client import INSTALLED, PATH, FromNpm, Place, call


class Gemini(FromNpm):
    """A process of node that starts a second one, which is the client; without ids."""

    name = "gemini"
    version = "0.61.0"
    title = f"Gemini CLI {version}"
    wrapped_as = "gemini"
    package = Package(
        "gemini",
        {"@google/gemini-cli": version},
        "node_modules/@google/gemini-cli/bundle/gemini.js",
    )
    prompt_sign = "Type your message"
    exit_words = "/quit"
    contains_commands = True
    not_played = MappingProxyType(
        {
            "test_a_subagent_uses_the_servers_of_its_session": "it ends by a tool, not by a text",
        }
    )

    def install(self, root: Path, note: Note) -> None:
        install(root, NODE, note)
        super().install(root, note)

    def argv(self) -> list[str]:
        return [str(INSTALLED / NODE.folder / NODE.proof), *super().argv()]

    def itself(self, started: int) -> int:
        (pid,) = children_of(started)
        return pid

    def shell_variables(self, shells: Path) -> dict[str, str]:
        return {"PATH": f"{shells}:{PATH}"}

    def configure(self, place: Place) -> None:
        servers = {name: server.json | {"trust": True} for name, server in place.servers.items()}
        place.write(
            ".gemini/settings.json",
            {
                "security": {
                    "auth": {"selectedType": "gemini-api-key"},
                    "folderTrust": {"enabled": False},
                },
                "general": {"enableAutoUpdate": False, "enableAutoUpdateNotification": False},
                "privacy": {"usageStatisticsEnabled": False},
                "telemetry": {"enabled": False},
                "ui": {"hideTips": True, "hideBanner": True},
                "model": {"name": "gemini-2.5-flash"},
                "mcpServers": servers,
            },
        )

    def variables(self, place: Place) -> dict[str, str]:
        return {"GEMINI_API_KEY": "a-key-of-the-tests", "GOOGLE_GEMINI_BASE_URL": place.url}

    def once(self, prompt: str) -> list[str]:
        return [*self.terminal(), "-p", prompt]

    def resume(self, session: str, prompt: str) -> list[str]:
        return [*self.terminal(), "--resume", session, "-p", prompt]

    def terminal(self) -> list[str]:
        return ["--approval-mode", "yolo"]

    def ping(self, server: str) -> str:
        return call(f"mcp_{server}_ping")

    def command(self, line: str, *, background: bool = False) -> str:
        more = {"is_background": True} if background else {}
        return call("run_shell_command", command=line, **more)

    def sessions(self, place: Place) -> set[str]:
        chats = (place.home / ".gemini/tmp").glob("*/chats/session-*.jsonl")
        return {json.loads(each.read_text().partition("\n")[0])["sessionId"] for each in chats}
