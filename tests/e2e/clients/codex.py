"""Codex CLI."""

import json
from types import MappingProxyType

from tests.e2e.packages import Package

from .client import MODEL, FromNpm, Place, Server, call


class Codex(FromNpm):
    """A native program; only its commands have the id of the session."""

    name = "codex"
    version = "0.171.0"
    title = f"Codex CLI {version}"
    wrapped_as = "codex"
    package = Package(
        "codex",
        {"@openai/codex": version},
        "node_modules/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex",
    )
    prompt_sign = "›"  # noqa: RUF001
    exit_words = "/quit"
    new_words = "/new"
    names_commands = True
    not_played = MappingProxyType(
        {
            "test_a_subagent_uses_the_servers_of_its_session": "its tool has another form",
        }
    )

    def configure(self, place: Place) -> None:
        servers = "".join(_table(name, server) for name, server in place.servers.items())
        place.write(
            ".codex/config.toml",
            f"""\
model = "{MODEL}"
model_provider = "loopback"
approval_policy = "never"
sandbox_mode = "danger-full-access"
check_for_update_on_startup = false

[model_providers.loopback]
name = "loopback"
base_url = "{place.url}/v1"
env_key = "LOOPBACK_KEY"
wire_api = "responses"

[analytics]
enabled = false

[features]
# one process, as with `codex exec`: the daemon of the terminal is a test of its own
daemon_auto_start = false

[projects."{place.work}"]
trust_level = "trusted"
{servers}""",
        )

    def variables(self, place: Place) -> dict[str, str]:
        return {"LOOPBACK_KEY": "a-key-of-the-tests"}

    def once(self, prompt: str) -> list[str]:
        return ["exec", "--skip-git-repo-check", prompt]

    def resume(self, session: str, prompt: str) -> list[str]:
        return ["exec", "--skip-git-repo-check", "resume", session, prompt]

    def terminal(self) -> list[str]:
        return []

    def ping(self, server: str) -> str:
        return call(f"mcp__{server}/ping")

    def command(self, line: str, *, background: bool = False) -> str:
        # what has not ended by then goes on in the background
        return call("exec_command", cmd=line, yield_time_ms=1000 if background else 20_000)

    def subagent(self, script: str) -> str:
        return call("spawn_agent", message=script)

    def add_hook(self, place: Place, event: str, command: str) -> None:
        with (place.home / ".codex/config.toml").open("a") as config:
            config.write(
                f"""
[[hooks.{event}]]
[[hooks.{event}.hooks]]
type = "command"
command = {json.dumps(command)}
"""
            )

    def sessions(self, place: Place) -> set[str]:
        rollouts = (place.home / ".codex/sessions").rglob("rollout-*.jsonl")
        return {path.stem[-36:] for path in rollouts}


def _table(name: str, server: Server) -> str:
    variables = ", ".join(
        f"{key} = {json.dumps(value)}" for key, value in server.json["env"].items()
    )
    return f"""
[mcp_servers.{name}]
command = {json.dumps(server.command)}
args = {json.dumps(server.arguments)}
env = {{ {variables} }}
"""
