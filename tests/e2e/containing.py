"""Scopekeeper beside OpenClaw, put there by its own commands, as the README says."""

import json
import os
import shutil
import subprocess
from typing import Any

from tests.machine import PROGRAM, end_cgroup, eventually, scope_directories

from .openclaw import INSTALLED, OpenClaw, make_private, systemctl

KEEPER = "scopekeeper.service"


class Containing:
    """What is installed for one gateway."""

    def __init__(self, claw: OpenClaw) -> None:
        self._claw = claw
        self.before = claw.configuration.read_bytes()
        self._rules = claw.home / ".config/scopekeeper/config.toml"
        profile = ("--profile", claw.profile) if claw.profile else ()
        done = self.call("openclaw", "install", *profile)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (claw.home / ".config/systemd/user" / KEEPER).exists(), done.stdout + done.stderr
        self.said = done.stdout + done.stderr

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Call the command as the user does, who has openclaw in PATH."""
        commands = INSTALLED / self._claw.version / "node_modules/.bin"
        return subprocess.run(
            [PROGRAM, *arguments],
            env=os.environ | {"PATH": f"{commands}:{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def json(self, *arguments: str) -> dict[str, Any]:
        """Call a command for its ``--json``, whatever its exit status."""
        answer: dict[str, Any] = json.loads(self.call(*arguments, "--json").stdout)
        return answer

    def rule(self, text: str) -> None:
        """Write the user's rules for lanes."""
        make_private(self._rules.parent)
        self._rules.write_text(text)

    def remove(self) -> None:
        """End what is in scopes, and take everything away."""
        for directory in scope_directories():
            end_cgroup(directory)
        systemctl("stop", KEEPER)
        systemctl("stop", "scopekeeper-*.scope")
        systemctl("reset-failed", "scopekeeper-*.scope", KEEPER)
        self.call("uninstall", "--force")
        shutil.rmtree(self._rules.parent, ignore_errors=True)
        shutil.rmtree(self._claw.home / ".local/state/scopekeeper", ignore_errors=True)
        eventually(lambda: not scope_directories())
