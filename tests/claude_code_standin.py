"""A stand-in for Claude Code: starts MCP servers, and calls its hook SessionEnd.

Arguments: a configuration (``mcpServers``) and the folder of the plugin. Prints the pids of the
servers. Each line on stdin is a reason to end the session; it prints how the hook has ended. Its
own end is left to the test: like a killed client, it ends none of its servers.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PATIENCE = 120
"""Seconds for a hook SessionEnd; Claude Code gives it 1.5, which a loaded machine may exceed."""
SESSION = "5e0c21ab-0000-4000-8000-000000000000"


def start(servers: dict[str, Any]) -> list["subprocess.Popen[bytes]"]:
    """Start each server as a child with pipes of its own."""
    return [
        subprocess.Popen(
            [each["command"], *each["args"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for each in servers.values()
    ]


def end_session(plugin: Path, reason: str) -> dict[str, object]:
    """Call the hook through ``/bin/sh -c``, in a session of its own, with the event on stdin."""
    event = {
        "session_id": SESSION, "transcript_path": "/dev/null", "cwd": os.getcwd(),
        "hook_event_name": "SessionEnd", "reason": reason,
    }  # fmt: skip
    ((group,),) = json.loads((plugin / "hooks/hooks.json").read_text())["hooks"].values()
    environment = os.environ | {
        "CLAUDECODE": "1", "CLAUDE_CODE_CHILD_SESSION": "1", "CLAUDE_CODE_SESSION_ID": SESSION,
        "CLAUDE_PID": str(os.getpid()), "CLAUDE_PLUGIN_ROOT": str(plugin),
    }  # fmt: skip
    done = subprocess.run(
        ["/bin/sh", "-c", group["hooks"][0]["command"]], input=json.dumps(event), env=environment,
        capture_output=True, text=True, timeout=PATIENCE, start_new_session=True,
    )  # fmt: skip
    return {"status": done.returncode, "printed": done.stdout + done.stderr}


def main() -> None:
    config, plugin = map(Path, sys.argv[1:])
    servers = start(json.loads(config.read_text())["mcpServers"])
    print(json.dumps([each.pid for each in servers]), flush=True)
    for line in sys.stdin:
        print(json.dumps(end_session(plugin, line.strip())), flush=True)


if __name__ == "__main__":
    main()
