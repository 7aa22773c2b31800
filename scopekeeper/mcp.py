"""``stdio_client`` of the MCP SDK, with the server as a member of its session's scope.

The SDK's own client runs as it is. What it starts is a launcher, which contains itself and becomes
the server. After the SDK's shutdown, what the server has left in its leaf is stopped, with proof.
Needs ``scopekeeper[mcp]``.
"""

import contextlib
import functools
import os
import socket
import sys
import threading
from collections.abc import AsyncGenerator
from typing import Any, TextIO, Unpack

import anyio
import anyio.to_thread
import mcp.client.stdio as sdk

from scopekeeper.errors import RemainsError
from scopekeeper.python_api import launcher, popen_arguments, stop_members
from scopekeeper.python_api.cohort import texts_of_member
from scopekeeper.python_api.options import Options, texts
from scopekeeper.python_api.popen_arguments import Command
from scopekeeper.python_api.process import warn_of

_SECONDS = 10.0
"""How long a launcher that the SDK has killed may take to be gone."""


@contextlib.asynccontextmanager
async def stdio_client(
    server: sdk.StdioServerParameters,
    errlog: TextIO = sys.stderr,
    *,
    session: str | None = None,
    lane: str | None = None,
    name: str | None = None,
    **options: Unpack[Options],
) -> AsyncGenerator[Any, None]:
    """Start a server in the scope of a session and lane; yields what the SDK's client yields.

    ``name`` names the member, by default the command does; ``options`` are those of
    ``scopekeeper.Cohort``. On the way out the SDK closes the server's stdin, waits, and terminates
    it; then its leaf is stopped, with what it launched through scopekeeper, as of a ``Cohort``.
    Raises what the SDK raises, ScopekeeperError, RemainsError.
    """
    member = texts(session, lane, options) | texts_of_member(name, replace=False)
    environment = sdk.get_default_environment() | (server.env or {})
    command, _ = popen_arguments.read(
        [server.command, *server.args], {"env": environment, "cwd": server.cwd}
    )
    ours, theirs = socket.socketpair()
    # the SDK's child inherits three descriptors; only stderr is ours to choose
    arguments = launcher.arguments_of(launcher.STDERR)
    starting = server.model_copy(
        update={"command": sys.executable, "args": arguments, "env": dict(os.environ)}
    )
    launching = _Launching(ours, command, member, errlog.fileno())
    launching.start()
    try:
        with open(theirs.detach(), "w", encoding="utf-8") as channel:  # noqa: ASYNC230
            async with sdk.stdio_client(starting, errlog=channel) as streams:
                channel.close()
                await anyio.to_thread.run_sync(launching.join)
                if launching.is_server:
                    yield streams
    except BaseException as error:
        await _leave(launching, error)
        raise
    else:
        await _leave(launching, None)


async def _leave(launching: "_Launching", error: BaseException | None) -> None:
    with anyio.CancelScope(shield=True):
        await anyio.to_thread.run_sync(launching.leave, error)


class _Launching(threading.Thread):
    """Talks to the launcher until that becomes the server or ends."""

    def __init__(
        self, channel: socket.socket, command: Command, options: dict[str, str], stderr: int
    ) -> None:
        super().__init__(name="scopekeeper-launch", daemon=True)
        self._talk = functools.partial(launcher.talk, channel, command, options, warn_of, stderr)
        self._channel = channel
        self._launch: launcher.Launch | None = None

    def run(self) -> None:
        with self._channel:
            self._launch = self._talk()

    @property
    def is_server(self) -> bool:
        """Whether the launcher has become the server."""
        return self._launch is not None and self._launch.error is None

    def leave(self, error: BaseException | None) -> None:
        """Stop what is left after the SDK's shutdown; error is what ended the block, if any.

        Raises what kept the server from starting, RemainsError.
        """
        self.join(_SECONDS)
        launch = self._launch
        with stop_members.noted_on(error):
            if launch is None:
                raise RemainsError("the launcher of the server cannot be killed")
            if launch.error is None and launch.directory:
                stop_members.end([launch], grace=None, reason="the client was left")
        if launch is not None and launch.error is not None:
            launcher.remove(launch)
            if error is None:
                raise launch.error
