"""OpenCode."""

from pathlib import Path
from types import MappingProxyType

from tests.e2e.packages import Package

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
            "SIGTERM": "it ignores that while a turn waits",
            "SIGHUP": "it ignores that while a turn waits",
            "test_a_session_that_is_begun_anew_leaves_nothing_of_either": "not scripted yet",
            "test_a_subagent_uses_the_servers_of_its_session": "not scripted yet",
            "test_a_session_that_is_resumed_has_its_name_again": "it has no name of its own",
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

    def variables(self, place: Place) -> dict[str, str]:
        names = ("AUTOUPDATE", "MODELS_FETCH", "LSP_DOWNLOAD")
        return {f"OPENCODE_DISABLE_{name}": "1" for name in names}

    def once(self, prompt: str) -> list[str]:
        return ["run", prompt]

    def resume(self, session: str, prompt: str) -> list[str]:
        return ["run", "--session", session, prompt]

    def terminal(self) -> list[str]:
        return []

    def shell_variables(self, shells: Path) -> dict[str, str]:
        return {"SHELL": str(shells / "bash")}

    def ping(self, server: str) -> str:
        return call(f"{server}_ping")

    def command(self, line: str, *, background: bool = False) -> str:
        if background:  # it has no commands in the background of its own
            line = f"({line}) > /dev/null 2>&1 & sleep 0.1"
        return call("bash", command=line, description="a command")
