"""Claude Code."""

import json
from pathlib import Path
from types import MappingProxyType

from tests.e2e.packages import Package

from .client import FromNpm, Place, call

KEY = "sk-ant-of-the-tests-0123456789"


class Claude(FromNpm):
    """A native program; its servers and commands have the id of the session."""

    name = "claude"
    version = "2.1.332"
    title = f"Claude Code {version}"
    wrapped_as = "claude-code"
    package = Package(
        "claude",
        {"@anthropic-ai/claude-code": version},
        "node_modules/@anthropic-ai/claude-code-linux-x64/claude",
    )
    prompt_sign = "❯"  # noqa: RUF001
    asks = "Background work"
    names_servers = True
    names_commands = True
    contains_commands = True
    not_played = MappingProxyType(
        {
            "test_commands_end_with_a_client_that_is_a_member_itself": "its shell is contained",
        }
    )

    def configure(self, place: Place) -> None:
        project = {"hasTrustDialogAccepted": True, "hasCompletedProjectOnboarding": True}
        state = {
            "hasCompletedOnboarding": True,
            "theme": "dark",
            "autoUpdates": False,
            "numStartups": 3,
            "customApiKeyResponses": {"approved": [KEY[-20:]], "rejected": []},
            "projects": {str(place.work): project},
            "mcpServers": {
                name: {"type": "stdio"} | server.json for name, server in place.servers.items()
            },
        }
        place.write(".claude.json", state)
        allowed = ["Bash", "Agent", *(f"mcp__{name}" for name in place.servers)]
        permissions = {
            "allow": allowed,
            "defaultMode": "acceptEdits",
            "disableAutoMode": "disable",
        }
        place.write(".claude/settings.json", {"permissions": permissions})

    def variables(self, place: Place) -> dict[str, str]:
        return {
            "ANTHROPIC_BASE_URL": place.url,
            "ANTHROPIC_API_KEY": KEY,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_TELEMETRY": "1",
            "DISABLE_ERROR_REPORTING": "1",
            # else the tools of servers are behind a search
            "ENABLE_TOOL_SEARCH": "false",
        }

    def once(self, prompt: str) -> list[str]:
        return ["-p", prompt]

    def resume(self, session: str, prompt: str) -> list[str]:
        return ["--resume", session, "-p", prompt]

    def terminal(self) -> list[str]:
        return []

    def shell_variables(self, shells: Path) -> dict[str, str]:
        return {"CLAUDE_CODE_SHELL": str(shells / "bash")}

    def ping(self, server: str) -> str:
        return call(f"mcp__{server}__ping")

    def command(self, line: str, *, background: bool = False) -> str:
        more = {"run_in_background": True} if background else {}
        return call("Bash", command=line, description="a command", **more)

    def subagent(self, script: str) -> str:
        return call(
            "Agent", description="a part", prompt=script, subagent_type="general-purpose",
            run_in_background=False,
        )  # fmt: skip

    def add_hook(self, place: Place, event: str, command: str) -> None:
        settings = json.loads((place.home / ".claude/settings.json").read_text())
        hook = {"hooks": [{"type": "command", "command": command}]}
        settings.setdefault("hooks", {}).setdefault(event, []).append(hook)
        place.write(".claude/settings.json", settings)

    def sessions(self, place: Place) -> set[str]:
        return {path.stem for path in (place.home / ".claude/projects").glob("*/*.jsonl")}
