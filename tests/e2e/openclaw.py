"""OpenClaw as its user has it: a configuration, the unit that it generates, a gateway that runs."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.machine import eventually

from .provider import MODEL, Provider
from .rpc import Gateway

INSTALLED = Path("/opt/openclaw")
"""Where the lab's machine has what ``packages`` installed on the host."""
NODE = INSTALLED / "node/node_modules/node/bin/node"
SERVERS = INSTALLED / "mcp/node_modules/@modelcontextprotocol"
STUB = Path(__file__).with_name("stub_server.py")
PORTS = {"": 18789, "second": 18889}
"""Of a gateway without a profile, and of that of a profile."""
TOKEN = "a-token-of-the-tests"
PATH = f"{NODE.parent}:/usr/local/bin:/usr/bin:/bin"
START_S = 400.0
PATIENT_S = 400.0
"""For one call: the first turn of a gateway takes two minutes where other machines run too."""
NAMES = ("everything", "files", "stub")
# what takes time, wants a network, and has no part in what is proved
QUICK = {
    "OPENCLAW_SKIP_CHANNELS": "1",
    "OPENCLAW_DISABLE_BONJOUR": "1",
    "OPENCLAW_SKIP_BROWSER_CONTROL_SERVER": "1",
    "OPENCLAW_SKIP_CANVAS_HOST": "1",
    "OPENCLAW_SKIP_ACPX_RUNTIME": "1",
    "OPENCLAW_NO_RESPAWN": "1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def systemctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Call the systemctl of the user's manager."""
    return subprocess.run(
        ["systemctl", "--user", *arguments], capture_output=True, text=True, timeout=400
    )


def make_private(folder: Path) -> None:
    """Make a folder below the home; OpenClaw refuses one that others may write to."""
    for each in (*reversed(folder.relative_to(Path.home()).parents), folder):
        path = Path.home() / each
        if path != Path.home():
            path.mkdir(exist_ok=True)
            path.chmod(0o700)


class OpenClaw:
    """One version in the home of this user, from a configuration to a gateway that answers."""

    def __init__(self, version: str, provider: Provider, profile: str = "") -> None:
        self.version = version
        self.profile = profile
        self._provider = provider
        self._suffix = f"-{profile}" if profile else ""
        self._port = PORTS[profile]
        self._script = INSTALLED / version / "node_modules/openclaw/openclaw.mjs"
        self.home = Path.home()
        self.state = self.home / f".openclaw{self._suffix}"
        self.unit = f"openclaw-gateway{self._suffix}.service"
        self.configuration = self.state / "openclaw.json"
        self.unit_file = self.home / ".config/systemd/user" / self.unit
        self._rpc: Gateway | None = None
        self._number = 0

    # What its user does

    def configure(self) -> None:
        """Write the configuration: two agents, three MCP servers, and nothing of scopekeeper."""
        for folder in (self.state, self.workspace("main"), self.workspace("spark")):
            make_private(folder)
        self.configuration.write_text(json.dumps(self._configuration(), indent=2) + "\n")
        self.configuration.chmod(0o600)

    def workspace(self, agent: str) -> Path:
        """Return the folder that an agent works in."""
        return self.home / f"workspace-{agent}{self._suffix}"

    def _configuration(self) -> dict[str, Any]:
        model = {
            "id": MODEL,
            "name": MODEL,
            "reasoning": False,
            "input": ["text"],
            "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0},
            "contextWindow": 128000,
            "maxTokens": 4096,
        }
        scripted = {
            "baseUrl": self._provider.url,
            "apiKey": "none",
            "api": "openai-completions",
            "models": [model],
        }
        main, spark = (str(self.workspace(agent)) for agent in ("main", "spark"))
        return {
            "gateway": {
                "mode": "local",
                "bind": "loopback",
                "port": self._port,
                "auth": {"mode": "token", "token": TOKEN},
            },
            "models": {"mode": "replace", "providers": {"scripted": scripted}},
            "agents": {
                "defaults": {
                    "model": {"primary": f"scripted/{MODEL}"},
                    "workspace": main,
                    "skipBootstrap": True,
                    "heartbeat": {"every": "12h", "isolatedSession": True},
                },
                "list": [
                    {"id": "main", "default": True, "workspace": main},
                    {"id": "spark", "workspace": spark},
                ],
            },
            "tools": {
                "agentToAgent": {"enabled": True, "allow": ["*"]},
                "sessions": {"visibility": "all"},
                "exec": {"host": "gateway", "security": "full", "ask": "off"},
            },
            "mcp": {"servers": self._servers(main)},
            "cron": {"enabled": True},
        } | self._short_talks()

    def _short_talks(self) -> dict[str, Any]:
        """Have two agents not go on talking: 2026.9 has no such setting, the provider ends it."""
        if not self.version.startswith("2026.4."):
            return {}
        return {"session": {"agentToAgent": {"maxPingPongTurns": 0}}}

    def _servers(self, workspace: str) -> dict[str, Any]:
        everything = str(SERVERS / "server-everything/dist/index.js")
        files = str(SERVERS / "server-filesystem/dist/index.js")
        commands = {
            "everything": [str(NODE), everything, "stdio"],
            "files": [str(NODE), files, workspace],
            "stub": ["/usr/bin/python3", str(STUB)],
        }
        return {
            name: {"command": command, "args": arguments, "env": {"E2E_SERVER": name}}
            for name, (command, *arguments) in commands.items()
        }

    def generate_unit(self) -> None:
        """Have OpenClaw write its user unit and start it, by its own command."""
        # by way of the manager: a drop-in that is there before the unit is makes 2026.9.6 give up
        systemctl("set-environment", *(f"{name}={value}" for name, value in QUICK.items()))
        done = self.command("gateway", "install", "--port", str(self._port), "--force")
        assert done.returncode == 0, done.stdout + done.stderr
        assert self.unit_file.exists(), done.stdout + done.stderr
        # 2026.9 waits for background commands when it stops, nearly as long as systemd lets it,
        # which are five minutes in its unit
        folder = self.unit_file.with_name(f"{self.unit}.d")
        make_private(folder)
        (folder / "50-quick.conf").write_text("[Service]\nTimeoutStopSec=20\n")
        (folder / "50-quick.conf").chmod(0o600)
        systemctl("daemon-reload")

    def argv(self, *arguments: str) -> list[str]:
        """Return the words that call the command ``openclaw``."""
        profile = ["--profile", self.profile] if self.profile else []
        return [str(NODE), str(self._script), *profile, *arguments]

    @property
    def by_hand(self) -> list[str]:
        """The words that start the gateway without its unit."""
        return self.argv("gateway", "--port", str(self._port))

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Call the command ``openclaw``."""
        return subprocess.run(
            self.argv(*arguments),
            env=os.environ | QUICK | {"PATH": PATH, "NO_COLOR": "1"},
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
        )

    # The gateway

    def _show(self, name: str) -> str:
        """Return a property of the gateway's unit."""
        return systemctl("show", "--value", f"--property={name}", self.unit).stdout.strip()

    @property
    def pid(self) -> int:
        """The pid of the gateway, 0 while there is none."""
        return int(self._show("MainPID") or 0)

    @property
    def epoch(self) -> str:
        """The invocation of the unit that runs."""
        return self._show("InvocationID")

    def restart(self) -> None:
        """Have systemd start the gateway anew, as a user does; do not wait for it to answer."""
        self.leave()
        done = systemctl("restart", self.unit)
        assert done.returncode == 0, done.stderr

    def wait_until_ready(self) -> None:
        """Wait until the gateway answers."""
        self.leave()
        self._rpc = eventually(self._connected, START_S, 0.2)

    def _connected(self) -> Gateway | None:
        assert self._show("ActiveState") != "failed", self.journal()
        rpc = None
        try:
            rpc = Gateway(self._port, TOKEN, str(NODE))
            rpc.call("health", 20)
        except Exception:  # noqa: BLE001 - not yet, whatever it says; the journal has it
            if rpc is not None:
                rpc.close()
            return None
        return rpc

    def restart_in_process(self) -> None:
        """Have the gateway restart itself within its process, and wait until it answers."""
        words = "restart mode: in-process restart"
        before = self.journal().count(words)
        self.call("gateway.restart.request", reason="a test", skipDeferral=True)
        self.leave()
        eventually(lambda: self.journal().count(words) > before, START_S, 0.1)
        self.wait_until_ready()

    def leave(self) -> None:
        """Close our connection."""
        if self._rpc is not None:
            self._rpc.close()
            self._rpc = None

    def call(self, method: str, seconds: float = PATIENT_S, **parameters: Any) -> Any:
        """Call a method of the gateway."""
        assert self._rpc is not None
        return self._rpc.call(method, seconds, **parameters)

    def journal(self) -> str:
        """Return what the gateway said."""
        done = subprocess.run(
            ["journalctl", "--user-unit", self.unit, "-n", "200", "-o", "cat", "--no-pager"],
            capture_output=True,
            text=True,
        )
        return done.stdout

    def remove(self) -> None:
        """Stop the gateway and take everything of it away, so that the next one is a first one."""
        self.leave()
        systemctl("kill", "--signal=SIGKILL", self.unit)  # in order takes it up to 330 s
        systemctl("disable", "--now", self.unit)
        systemctl("reset-failed", self.unit)
        for path in (self.state, self.workspace("main"), self.workspace("spark")):
            shutil.rmtree(path, ignore_errors=True)
        systemctl("unset-environment", *QUICK)
        shutil.rmtree(self.unit_file.with_name(f"{self.unit}.d"), ignore_errors=True)
        self.unit_file.unlink(missing_ok=True)
        systemctl("daemon-reload")

    # What sessions do

    def turn(self, key: str, *steps: str) -> list[str]:
        """Have a session do these steps in one turn; return what its tools answered."""
        self._number += 1
        mark = f"turn {self._number} of {key}"
        _, agent, _ = key.split(":", 2)
        self.call(
            "agent",
            agentId=agent,
            sessionKey=key,
            message="\n".join((mark, *steps, f"say: end of {mark}")),
            idempotencyKey=f"{time.time_ns()}",
        )
        return self._answers(mark)

    def _answers(self, mark: str) -> list[str]:
        return list(self._provider.asked(mark)[-1].results)

    def cron_run(self) -> None:
        """Have a job run once, in an isolated session, and wait for its end."""
        self._number += 1
        job = self.call(
            "cron.add",
            name=f"job {self._number}",
            schedule={"kind": "every", "everyMs": 86_400_000},
            sessionTarget="isolated",
            wakeMode="now",
            payload={"kind": "agentTurn", "message": f"job {self._number}\nsay: done"},
            delivery={"mode": "none"},
        )
        self.call("cron.run", id=job["id"], mode="force")

        def ended() -> bool:
            return bool(self.call("cron.runs", id=job["id"])["entries"])

        eventually(ended, pause=0.1)

    def heartbeat(self) -> None:
        """Have the heartbeat beat once, in an isolated session, and wait for its end."""
        for _ in range(20):
            before = (self.call("last-heartbeat") or {}).get("ts", 0)
            self.call("wake", mode="now", text="say that you are there")
            event = self._heartbeat_after(before)
            # with a preview it was answered, and only had nobody to tell; else main was busy
            if event["status"] != "skipped" or "preview" in event:
                return
        raise AssertionError(event)

    def _heartbeat_after(self, moment: float) -> dict[str, Any]:
        def later() -> dict[str, Any]:
            event: dict[str, Any] = self.call("last-heartbeat") or {}
            return event if event.get("ts", 0) > moment else {}

        return eventually(later, pause=0.1)
