"""An MCP server that says what it was started with: ``tell`` answers with all of it as JSON."""

import json
import os
import sys

try:
    from mcp.server.mcpserver import MCPServer
except ImportError:  # before version 2
    from mcp.server.fastmcp import FastMCP as MCPServer

server = MCPServer("mirror")


@server.tool()
def tell() -> str:
    """Say what this process is."""
    with open("/proc/self/cmdline", "rb") as file:
        argv = file.read().decode().split("\0")[:-1]
    return json.dumps(
        {
            "argv": argv,
            "arguments": sys.argv[1:],
            "environment": dict(os.environ),
            "cwd": os.getcwd(),
            "parent": os.getppid(),
            "descriptors": sorted(map(int, os.listdir("/proc/self/fd"))),
            "umask": os.umask(0),
        }
    )


if __name__ == "__main__":
    print("mirror: started", file=sys.stderr, flush=True)
    server.run()
