"""GitHub Copilot CLI."""

from tests.e2e.packages import Package

from .client import MODEL, FromNpm, Place, call

FREE = ["--allow-all-tools", "--allow-all-paths", "--disable-builtin-mcps"]
"""It asks before no tool; its own servers want an account."""


class Copilot(FromNpm):
    """A native program; its servers and commands have the id of the session."""

    name = "copilot"
    version = "1.0.102"
    title = f"GitHub Copilot CLI {version}"
    wrapped_as = "copilot"
    package = Package(
        "copilot",
        {"@github/copilot": version},
        "node_modules/@github/copilot-linux-x64/copilot",
    )
    prompt_sign = "❯"  # noqa: RUF001
    names_servers = True
    names_commands = True

    def configure(self, place: Place) -> None:
        servers = {
            name: {"type": "local", "tools": ["*"]} | server.json
            for name, server in place.servers.items()
        }
        place.write(".copilot/mcp-config.json", {"mcpServers": servers})
        place.write(".copilot/config.json", {"trusted_folders": [str(place.work)]})

    def variables(self, place: Place) -> dict[str, str]:
        return {
            "COPILOT_OFFLINE": "true",
            "COPILOT_PROVIDER_BASE_URL": f"{place.url}/v1",
            "COPILOT_PROVIDER_API_KEY": "a-key-of-the-tests",
            "COPILOT_MODEL": MODEL,
            "COPILOT_AUTO_UPDATE": "false",
        }

    def once(self, prompt: str) -> list[str]:
        return [*FREE, "-p", prompt]

    def resume(self, session: str, prompt: str) -> list[str]:
        return [*FREE, f"--resume={session}", "-p", prompt]

    def terminal(self) -> list[str]:
        return FREE

    def ping(self, server: str) -> str:
        return call(f"{server}-ping")

    def command(self, line: str, *, background: bool = False) -> str:
        more = {"mode": "async", "initial_wait": 1} if background else {"mode": "sync"}
        return call("bash", command=line, description="a command", **more)

    def subagent(self, script: str) -> str:
        return call(
            "task", name="a-part", description="a part", prompt=script,
            agent_type="general-purpose", mode="sync",
        )  # fmt: skip

    def sessions(self, place: Place) -> set[str]:
        states = (place.home / ".copilot/session-state").glob("*-*-*-*-*")
        return {path.name for path in states}
