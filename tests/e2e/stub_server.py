"""An MCP server as hosts have them: it does not see its input end, and it has helpers.

One helper is in its process group, the other one in a session of its own, as a browser's daemon.
Both carry ``E2E_HELPER`` and the server's pid in their environment. With ``E2E_STUBBORN`` the
server itself ignores SIGTERM, SIGINT and SIGHUP. Standard library only.
"""

import json
import os
import signal
import subprocess
import sys
from typing import Any

PROTOCOL = "2025-06-18"
TOOL = {"name": "ping", "description": "the server's pid", "inputSchema": {"type": "object"}}


def start_helpers() -> None:
    """Start one helper in our group and one outside of it."""
    for kind, new_session in (("group", False), ("setsid", True)):
        subprocess.Popen(
            ["sleep", "infinity"],
            env=os.environ | {"E2E_HELPER": kind, "E2E_PARENT": str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=new_session,
        )


def result_of(method: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return what a request is answered with."""
    match method:
        case "initialize":
            version = parameters.get("protocolVersion", PROTOCOL)
            information = {"name": "stub", "version": "1"}
            return {
                "protocolVersion": version,
                "capabilities": {"tools": {}},
                "serverInfo": information,
            }
        case "tools/list":
            return {"tools": [TOOL]}
        case "tools/call":
            return {"content": [{"type": "text", "text": f"pong from {os.getpid()}"}]}
        case _:
            return {}


def main() -> None:
    """Answer until the input ends, and stay."""
    start_helpers()
    if os.environ.get("E2E_STUBBORN"):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
    for line in sys.stdin:
        message = json.loads(line)
        if "id" in message and "method" in message:
            result = result_of(message["method"], message.get("params") or {})
            print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
