"""OpenCode."""

import contextlib
import sqlite3
from pathlib import Path
from types import MappingProxyType

from tests.e2e.packages import Package
from tests.machine import SHELL

from .client import MODEL, FromNpm, Place, call


class OpenCode(FromNpm):
    """A native program without an id of the session for servers and commands."""

    name = "opencode"
    version = "1.18.33"
    title = f"OpenCode {version}"
    wrapped_as = "opencode"
    package = Package(
        "opencode",
        {"opencode-ai": version},
        "node_modules/opencode-linux-x64/bin/opencode",
    )
    prompt_sign = "Ask anything"
    new_words = "/new"
    contains_commands = True
    not_played = MappingProxyType(
        {
            "test_commands_end_with_a_client_that_is_a_member_itself": "its shell is contained",
        }
    )

    def configure(self, place: Place) -> None:
        servers = {
            name: {
                "type": "local",
                "enabled": True,
                "command": [server.command, *server.arguments],
                "environment": server.environment,
            }
            for name, server in place.servers.items()
        }
        model = {
            "name": MODEL,
            "tool_call": True,
            "limit": {"context": 128000, "output": 4096},
        }
        provider = {
            "npm": "@ai-sdk/openai-compatible",
            "name": "loopback",
            "options": {"baseURL": f"{place.url}/v1", "apiKey": "none"},
            "models": {MODEL: model},
        }
        place.write(
            ".config/opencode/opencode.json",
            {
                "autoupdate": False,
                "share": "disabled",
                "model": f"loopback/{MODEL}",
                "small_model": f"loopback/{MODEL}",
                "provider": {"loopback": provider},
                "permission": {"*": "allow"},
                "mcp": servers,
            },
        )

        # drawn all the time, they take most of a processor
        place.write(".local/state/opencode/kv.json", {"animations_enabled": False})

    def variables(self, place: Place) -> dict[str, str]:
        names = ("AUTOUPDATE", "MODELS_FETCH", "LSP_DOWNLOAD")
        return {f"OPENCODE_DISABLE_{name}": "1" for name in names}

    def once(self, prompt: str) -> list[str]:
        return ["run", *_words(prompt)]

    def resume(self, session: str, prompt: str) -> list[str]:
        return ["run", "--session", session, *_words(prompt)]

    def terminal(self) -> list[str]:
        return []

    def shell_variables(self, shells: Path) -> dict[str, str]:
        return {"SHELL": SHELL}

    def ping(self, server: str) -> str:
        return call(f"{server}_ping")

    def command(self, line: str, *, background: bool = False) -> str:
        if background:  # it has no commands in the background of its own
            line = f"({line}) > /dev/null 2>&1 & sleep 0.1"
        return call("bash", command=line, description="a command")

    def subagent(self, script: str) -> str:
        return call("task", description="a part", prompt=script, subagent_type="general")

    def sessions(self, place: Place) -> set[str]:
        database = place.home / ".local/share/opencode/opencode.db"
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as opened:
            return {name for (name,) in opened.execute("SELECT id FROM session")}


def _words(prompt: str) -> list[str]:
    """It joins its words with a blank, and quotes those that have a blank."""
    return ["--", *prompt.split(" ")]
