"""hermes-agent."""

from pathlib import Path
from types import MappingProxyType

from tests.lab.host import Note

from . import pypi
from .client import INSTALLED, MODEL, Client, Place, call


class Hermes(Client):
    """A program in Python; a watchdog of its own starts each server."""

    name = "hermes"
    version = "0.19.0"
    title = f"hermes-agent {version}"
    wrapped_as = "hermes"
    distribution = pypi.Distribution(
        "hermes", f"hermes-agent[mcp]=={version}", "3.13", "site/bin/hermes"
    )
    not_played = MappingProxyType({
        "test_a_session_that_is_begun_anew_leaves_nothing_of_either": "not scripted yet",
        "test_a_session_that_is_resumed_has_its_name_again": "not scripted yet",
        "test_a_subagent_uses_the_servers_of_its_session": "not scripted yet",
        **{
            f"tui-{name}": "not scripted yet"
            for name in ("left", "interrupted", "closed", "SIGTERM", "SIGHUP", "SIGKILL")
        },
    })  # fmt: skip

    def install(self, root: Path, note: Note) -> None:
        pypi.install(root, self.distribution, note)

    def argv(self) -> list[str]:
        # the script names the interpreter that pip was called with
        return ["/usr/bin/python3", str(INSTALLED / "hermes" / self.distribution.proof)]

    def configure(self, place: Place) -> None:
        place.write(
            ".hermes/config.yaml",  # JSON is YAML
            {
                "model": {
                    "default": MODEL,
                    "provider": "custom",
                    "base_url": f"{place.url}/v1",
                    "api_key": "none",
                    "context_length": 128000,
                },
                "terminal": {"backend": "local", "cwd": str(place.work)},
                "approvals": {"mode": "off"},
                "checkpoints": {"enabled": False},
                "mcp_servers": {name: server.json for name, server in place.servers.items()},
            },
        )

    def variables(self, place: Place) -> dict[str, str]:
        site = INSTALLED / "hermes/site"
        url = f"{place.url}/v1"
        return {"PYTHONPATH": str(site), "OPENAI_API_KEY": "none", "OPENAI_BASE_URL": url}

    def once(self, prompt: str) -> list[str]:
        return ["--yolo", "-z", prompt]

    def resume(self, session: str, prompt: str) -> list[str]:
        return ["--yolo", "--resume", session, "-z", prompt]

    def terminal(self) -> list[str]:
        return ["--yolo", "--cli"]

    def ping(self, server: str) -> str:
        return call(f"mcp__{server}__ping")

    def command(self, line: str, *, background: bool = False) -> str:
        more = {"background": True} if background else {}
        return call("terminal", command=line, **more)
