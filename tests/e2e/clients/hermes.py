"""hermes-agent."""

import sqlite3
from pathlib import Path
from types import MappingProxyType

from tests.lab.host import Note

from .client import INSTALLED, MODEL, Client, Place, call
from .pypi import Environment

KEY = "a-key-of-the-tests"


class Hermes(Client):
    """A Python program; a watchdog with a session of its own is above each of its servers."""

    name = "hermes"
    version = "0.19.0"
    title = f"hermes-agent {version}"
    wrapped_as = "hermes"
    environment = Environment("hermes", f"hermes-agent[mcp]=={version}", "hermes")
    prompt_sign = "❯"  # noqa: RUF001
    exit_words = "/quit"
    names_commands = True
    contains_commands = True
    not_played = MappingProxyType(
        {
            "test_commands_end_with_a_client_that_is_a_member_itself": "its shell is contained",
        }
    )

    def install(self, root: Path, note: Note) -> None:
        self.environment.install(root, INSTALLED, note)

    def argv(self) -> list[str]:
        return [str(INSTALLED / self.environment.folder / "bin" / self.environment.program)]

    def configure(self, place: Place) -> None:
        settings = {
            "model": {
                "default": MODEL,
                "provider": "custom",
                "base_url": f"{place.url}/v1",
                "api_key": KEY,
                "context_length": 128_000,
            },
            "terminal": {"backend": "local", "cwd": str(place.work)},
            "approvals": {"mode": "off", "destructive_slash_confirm": False},
            "checkpoints": {"enabled": False},
            "mcp_servers": {name: server.json for name, server in place.servers.items()},
        }
        # JSON is YAML, too
        place.write(".hermes/config.yaml", settings)

    def variables(self, place: Place) -> dict[str, str]:
        # its own folder cannot be written: compiled anew, it would need half a minute to start
        compiled = str(Path.home() / ".cache/hermes")
        return {
            "OPENAI_API_KEY": KEY,
            "OPENAI_BASE_URL": f"{place.url}/v1",
            "PYTHONPYCACHEPREFIX": compiled,
        }

    def once(self, prompt: str) -> list[str]:
        return ["--yolo", "-z", prompt]

    def resume(self, session: str, prompt: str) -> list[str]:
        # with -z it would begin another session
        return ["--yolo", "chat", "--resume", session, "--quiet", "--query", prompt]

    def terminal(self) -> list[str]:
        return ["--yolo", "--cli"]

    def shell_variables(self, shells: Path) -> dict[str, str]:
        # the first is for commands that it waits for, the second for those in the background
        return {"PATH": f"{shells}:/usr/local/bin:/usr/bin:/bin", "SHELL": str(shells / "bash")}

    def ping(self, server: str) -> str:
        return call(f"mcp__{server}__ping")

    def command(self, line: str, *, background: bool = False) -> str:
        more = {"background": True} if background else {}
        return call("terminal", command=line, **more)

    def subagent(self, script: str) -> str:
        return call("delegate_task", goal=script)

    def sessions(self, place: Place) -> set[str]:
        with sqlite3.connect(place.home / ".hermes/state.db") as database:
            return {identifier for (identifier,) in database.execute("SELECT id FROM sessions")}
