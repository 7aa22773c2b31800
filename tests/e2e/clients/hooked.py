"""Desks of clients whose hooks end what they leave; no keeper runs."""

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import scopekeeper
from tests.machine import PREFIX, PROGRAM, SHELL, eventually, text_of
from tests.viewer import Viewer

from .claude import Claude
from .client import Client, Place
from .codex import Codex
from .desk import SERVERS, UNIT, Desk
from .model import Model

PLUGINS = Path(scopekeeper.__file__).parent / "clients/claude_code"
"""The marketplace with our plugin for Claude Code, as it is installed."""
OF_ONE_PROCESS = "daemon_auto_start = false\n"
DOWN = "\x1b[B"
TRUST = "2. Trust all and continue"


class Hooked(Desk):
    """A client after ``wrap`` and ``wrap --hooks``, with a hook of the user's own."""

    def __init__(self, client: Client, model: Model) -> None:
        super().__init__(client, model, contained=True)

    @property
    def starts(self) -> int:
        """How often the client has reported the start of a session."""
        return len(text_of(self._reports("SessionStart")).splitlines())

    @property
    def ends(self) -> int:
        """How often it has reported the end of one."""
        return len(text_of(self._reports("SessionEnd")).splitlines())

    def variables(self) -> dict[str, str]:
        return super().variables() | self.client.shell_variables(self._links)

    def _reports(self, event: str) -> Path:
        return self.place.home / event

    def _count(self, event: str) -> None:
        """Have a hook of the user's own write a line."""
        self.client.add_hook(self.place, event, f"echo x >> {self._reports(event)}")

    @property
    def _links(self) -> Path:
        return self.place.home / "links"

    def _contain(self) -> None:
        self._links.mkdir()
        (self._links / "bash").symlink_to(SHELL)
        for event in ("SessionStart", "SessionEnd"):
            self._count(event)
        for more in ((), ("--hooks",)):
            self.run([PROGRAM, "wrap", *more, "--client", self.client.wrapped_as])
        if isinstance(self.client, Codex):
            self._trust()

    def run(self, words: Sequence[str]) -> str:
        """Run a command as the user does, in the project; return its output."""
        done = subprocess.run(
            words,
            cwd=self.place.work,
            env=os.environ | self.variables(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _trust(self) -> None:
        """Have Codex trust its hooks, as its user does at its first start."""
        config = self.place.home / ".codex/config.toml"
        words = [word for name in SERVERS for word in ("-c", f"mcp_servers.{name}.enabled=false")]
        viewer = Viewer(self.argv(words, f"{UNIT}-{os.getpid()}-trust"), cols=140, rows=45)
        try:
            viewer.shows(TRUST)

            def is_trusted() -> bool:
                shown = "\n".join(viewer.picture())  # what is typed too early is lost
                if TRUST in shown:
                    viewer.type("\r" if f"{self.client.prompt_sign} {TRUST}" in shown else DOWN)
                text = config.read_text()
                return text.count("trusted_hash") == text.count(".hooks]]")

            eventually(is_trusted, pause=0.5)
        finally:
            viewer.close()


class CodexWithDaemon(Codex):
    """Codex as it is without a word in its settings: a daemon has the sessions of the terminal."""

    def configure(self, place: Place) -> None:
        super().configure(place)
        config = place.home / ".codex/config.toml"
        text = config.read_text()
        assert OF_ONE_PROCESS in text
        config.write_text(text.replace(OF_ONE_PROCESS, ""))


class ClaudeByLine(Claude):
    """Claude Code with the line in its settings, where one of the servers is a plugin's."""

    def configure(self, place: Place) -> None:
        super().configure(replace(place, servers={"stub": place.servers["stub"]}))
        market = place.home / "market"
        place.write(
            "market/.claude-plugin/marketplace.json",
            {
                "name": "market",
                "owner": {"name": "tests"},
                "plugins": [{"name": "tools", "source": "./tools", "description": "a server"}],
            },
        )
        place.write("market/tools/.claude-plugin/plugin.json", {"name": "tools"})
        stubborn = place.servers["stubborn"]
        # Claude Code starts no server of a plugin whose command is that of another server
        stubborn = replace(stubborn, arguments=[*stubborn.arguments, "of-a-plugin"])
        place.write("market/tools/.mcp.json", {"mcpServers": {"stubborn": stubborn.json}})
        file = place.home / ".claude/settings.json"
        settings = json.loads(file.read_text())
        settings["env"] = {"CLAUDE_CODE_SHELL_PREFIX": PREFIX}
        settings["permissions"]["allow"].append("mcp__plugin_tools_stubborn")
        place.write(".claude/settings.json", settings)
        assert market.is_dir()

    def ping(self, server: str) -> str:
        return super().ping("plugin_tools_stubborn" if server == "stubborn" else server)


class ByLine(Hooked):
    """Claude Code as docs/clients.md recommends it: one line, and our plugin for the hook."""

    def variables(self) -> dict[str, str]:
        usual = Desk.variables(self)
        # the plugin's hook looks for scopekeeper there
        return usual | {"PATH": f"{Path(PROGRAM).parent}:{usual['PATH']}"}

    def _contain(self) -> None:
        self._count("SessionEnd")
        folders = {"tools@market": self.place.home / "market", "scopekeeper@scopekeeper": PLUGINS}
        for plugin, folder in folders.items():
            self.run([*self.client.argv(), "plugin", "marketplace", "add", str(folder)])
            self.run([*self.client.argv(), "plugin", "install", plugin])
