"""OpenClaw whose model is Claude Code, the real one, which has a model on loopback."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from .clients.claude import KEY, Claude
from .clients.client import INSTALLED
from .clients.model import Model
from .openclaw import OpenClaw

CLAUDE = INSTALLED / Claude.package.folder / Claude.package.proof
MODEL = "claude-sonnet-5"


class ClaudeAsModel(OpenClaw):
    """A gateway that starts Claude Code for each session."""

    def __init__(self, version: str, model: Model) -> None:
        super().__init__(version, model)
        self._model = model
        self._program = self.home / ".local/bin/claude"
        self._settings = self.home / ".claude/settings.json"
        self._own = self.home / ".claude.json"

    def configure(self) -> None:
        """Write the configurations of both, and have Claude Code where a service finds it."""
        super().configure()
        self._program.parent.mkdir(parents=True, exist_ok=True)
        self._program.unlink(missing_ok=True)
        self._program.symlink_to(CLAUDE)
        # OpenClaw drops such variables from the environment; these are the user's own settings
        variables = {
            "ANTHROPIC_BASE_URL": self._model.origin,
            "ANTHROPIC_API_KEY": KEY,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_TELEMETRY": "1",
            "DISABLE_ERROR_REPORTING": "1",
            "ENABLE_TOOL_SEARCH": "false",
        }
        permissions = {"disableAutoMode": "disable"}
        self._settings.parent.mkdir(exist_ok=True)
        self._settings.write_text(json.dumps({"env": variables, "permissions": permissions}))
        own = {"hasCompletedOnboarding": True, "theme": "dark", "autoUpdates": False,
               "customApiKeyResponses": {"approved": [KEY[-20:]], "rejected": []}}  # fmt: skip
        self._own.write_text(json.dumps(own))

    def _configuration(self) -> dict[str, Any]:
        made = super()._configuration()
        made["agents"]["defaults"]["model"] = {"primary": f"claude-cli/{MODEL}"}
        return made

    def _answers(self, mark: str) -> list[str]:
        return self._model.results(mark)

    def remove(self) -> None:
        """Take Claude Code's files away, too."""
        super().remove()
        self._program.unlink(missing_ok=True)
        self._own.unlink(missing_ok=True)
        shutil.rmtree(self._settings.parent, ignore_errors=True)

    def programs(self) -> dict[int, str]:
        """Return the pids of Claude Code that run, each with its cgroup."""
        found = {}
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and os.readlink(entry / "exe") == str(CLAUDE):
                    found[int(entry.name)] = (entry / "cgroup").read_text().strip()
            except OSError:
                continue
        return found
