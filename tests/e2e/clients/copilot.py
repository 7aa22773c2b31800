"""GitHub Copilot CLI."""

from types import MappingProxyType

from tests.e2e.packages import Package

from .client import MODEL, FromNpm, Place, call


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
    not_played = MappingProxyType(
        {
            "test_a_subagent_uses_the_servers_of_its_session": "not scripted yet",
        }
    )

    def configure(self, place: Place) -> None:
        servers = {
            name: {"type": "local", "tools": ["*"]} | server.json
            for name, server in place.servers.items()
        }
        place.write(".copilot/mcp-config.json", {"mcpServers": servers})
        place.write(
            ".copilot/config.json", {"trusted_folders": [str(place.work)], "banner": "never"}
        )

    def variables(self, place: Place) -> dict[str, str]:
        return {
            "COPILOT_OFFLINE": "true",
            "COPILOT_PROVIDER_BASE_URL": f"{place.url}/v1",
            "COPILOT_PROVIDER_API_KEY": "a-key-of-the-tests",
            "COPILOT_MODEL": MODEL,
            "COPILOT_AUTO_UPDATE": "false",
        }

    def once(self, prompt: str) -> list[str]:
        return [*self.terminal(), "-p", prompt]

    def resume(self, session: str, prompt: str) -> list[str]:
        return [*self.terminal(), f"--resume={session}", "-p", prompt]

    def terminal(self) -> list[str]:
        return ["--allow-all-tools", "--allow-all-paths", "--disable-builtin-mcps"]

    def ping(self, server: str) -> str:
        return call(f"{server}-ping")

    def command(self, line: str, *, background: bool = False) -> str:
        more = {"mode": "async", "initial_wait": 1} if background else {}
        return call("bash", command=line, description="a command", **more)

    def sessions(self, place: Place) -> set[str]:
        return {path.name for path in (place.home / ".copilot/session-state").glob("*-*")}
