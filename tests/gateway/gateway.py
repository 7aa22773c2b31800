"""A small agent gateway: nine real MCP servers for one session, through the SDK's own client.

    gateway.py -s SESSION -l LANE --repository PATH [--bare] [--own] [--placement P]

Each server is started as ``scopekeeper run -s SESSION -l LANE -n NAME -- COMMAND``, or directly
with ``--bare``. The SDK hands a server only HOME LOGNAME PATH SHELL TERM USER, so nothing about
the gateway or the machine's bus reaches ``scopekeeper`` through the environment. When all nine
have answered, one JSON line on standard output says so; then the gateway lives until SIGTERM, or
until its standard input ends.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent


@dataclass(frozen=True, slots=True)
class Server:
    """One server: its member's name, what to run, how it is wrapped, and one call to make."""

    name: str
    command: tuple[str, ...]
    wrapping: tuple[str, ...] = ()
    call: tuple[str, dict[str, Any]] | None = None


def servers(repository: str) -> list[Server]:
    """Three of each kind; of each kind one leaves helpers and one does not see the gateway go."""
    hour = {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}
    git = ("mcp-server-git", "--repository", repository)
    status = ("git_status", {"repo_path": repository})
    log = ("git_log", {"repo_path": repository})
    return [
        Server("time", ("mcp-server-time",), (), ("get_current_time", {"timezone": "UTC"})),
        Server("time-berlin", ("mcp-server-time", "--local-timezone=Europe/Berlin"),
               ("--helpers",), ("get_current_time", {"timezone": "Europe/Berlin"})),
        Server("time-tokyo", ("mcp-server-time", "--local-timezone=Asia/Tokyo"),
               ("--deaf",), ("convert_time", hour)),
        Server("fetch", ("mcp-server-fetch",)),
        Server("fetch-docs", ("mcp-server-fetch", "--ignore-robots-txt"), ("--helpers",)),
        Server("fetch-agent", ("mcp-server-fetch", "--user-agent=agent"), ("--deaf",)),
        Server("git", git, (), status),
        Server("git-review", git, ("--helpers",), log),
        Server("git-deploy", git, ("--deaf", "--helpers"), status),
    ]  # fmt: skip


def command_line(server: Server, options: argparse.Namespace) -> list[str]:
    """Return what the gateway's configuration would say for this server."""
    program, *arguments = server.command
    line = [str(BIN / program), *arguments]
    if server.wrapping:
        launcher = [sys.executable, "-I", "-S", str(HERE / "with_helper.py")]
        line = [*launcher, *server.wrapping, "--", *line]
    if options.bare:
        return line
    run = [str(BIN / "scopekeeper"), "run", "-s", options.session, "-l", options.lane]
    run += ["-n", server.name]
    if options.own:
        run += ["--owner", str(os.getpid())]
    if options.placement:
        run += ["--placement", options.placement]
    return [*run, "--", *line]


async def serve(
    server: Server,
    options: argparse.Namespace,
    up: asyncio.Future[dict[str, Any]],
    end: asyncio.Event,
) -> None:
    """Start one server, talk to it, and keep it until the end."""
    command, *arguments = command_line(server, options)
    parameters = StdioServerParameters(command=command, args=arguments)
    try:
        async with stdio_client(parameters) as streams, ClientSession(*streams) as session:
            await session.initialize()
            tools = [tool.name for tool in (await session.list_tools()).tools]
            answer = await ask(session, server) if server.call else None
            up.set_result({"name": server.name, "tools": tools, "answer": answer})
            await end.wait()
    except Exception as error:
        if not up.done():
            up.set_exception(error)
        raise


async def ask(session: ClientSession, server: Server) -> str:
    """Call the server's tool and return the text of its answer; raises where it failed."""
    assert server.call is not None
    result = await session.call_tool(*server.call)
    text = "\n".join(getattr(part, "text", "") for part in result.content)
    if getattr(result, "isError", False) or getattr(result, "is_error", False):
        raise RuntimeError(f"{server.name}: {text}")
    return text


def cause(error: BaseException) -> BaseException:
    """Return what went wrong first, out of the groups that the SDK's task groups wrap it in."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def children() -> list[int]:
    """Return the pids that this process started, as a gateway knows them."""
    pids: list[int] = []
    for thread in Path("/proc/self/task").iterdir():
        pids += map(int, (thread / "children").read_text().split())
    return sorted(pids)


async def end_with_input(end: asyncio.Event) -> None:
    """Set the event when standard input ends: whoever started this is gone."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.read(4096):
        pass
    end.set()


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("-s", "--session", required=True)
    parser.add_argument("-l", "--lane", default="main")
    parser.add_argument("--repository", required=True, help="for the git servers")
    parser.add_argument("--bare", action="store_true", help="start the servers directly")
    parser.add_argument("--own", action="store_true", help="name this process as the owner")
    parser.add_argument("--placement", default="", help="as of scopekeeper run")
    options = parser.parse_args()
    end = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end.set)
    watch = asyncio.create_task(end_with_input(end))
    wanted = servers(options.repository)
    ups = [loop.create_future() for _ in wanted]
    tasks = [
        asyncio.create_task(serve(server, options, up, end))
        for server, up in zip(wanted, ups, strict=True)
    ]
    stopped = asyncio.create_task(end.wait())
    started = asyncio.gather(*ups, return_exceptions=True)
    await asyncio.wait([started, stopped], return_when=asyncio.FIRST_COMPLETED)
    if started.done():
        facts = started.result()
        failed = [f"{s.name}: {cause(f)!r}" for s, f in zip(wanted, facts, strict=True)
                  if isinstance(f, BaseException)]  # fmt: skip
        ready = {"ready": not failed, "pid": os.getpid(), "children": children()}
        ready |= {"failed": failed} if failed else {"servers": facts}
        print(json.dumps(ready), flush=True)
        if failed:
            end.set()
        await end.wait()
    watch.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return 0 if started.done() and not failed else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
