"""``stdio_client`` of the MCP SDK, with the server as a member of its session's scope.

The SDK's own code does it, but for the start of the process, which is ours, and what comes after
its shutdown: what the server has left in its leaf is stopped, with proof. Needs
``scopekeeper[mcp]``.
"""

import contextlib
import functools
import importlib.metadata
import os
import signal
import subprocess
import sys
import types
from collections.abc import AsyncGenerator, Callable
from typing import Any, TextIO, Unpack

import anyio
import anyio.abc
import anyio.lowlevel
import anyio.to_thread
import mcp.client.stdio as sdk

from scopekeeper.errors import UnavailableError
from scopekeeper.python_api.cohort import Cohort
from scopekeeper.python_api.options import Options
from scopekeeper.python_api.process import Process

_START = "_create_platform_compatible_process"
"""The SDK's function that starts a server: (command, args, env, errlog, cwd); since 1.4."""
_MOST = 65536


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
    """Start a server in the scope of a session and lane; yields what the SDK's yields.

    name is the member's, else the command's; options are those of ``scopekeeper.Cohort``. On the
    way out the SDK closes the server's stdin, waits, and terminates it; then its leaf is stopped.
    Raises what the SDK raises, ScopekeeperError, RemainsError.
    """
    cohort = Cohort(session, lane, **options)

    async def start(
        command: str,
        args: list[str],
        env: dict[str, str] | None = None,
        errlog: TextIO = sys.stderr,
        cwd: str | os.PathLike[str] | None = None,
    ) -> anyio.abc.Process:
        starting = functools.partial(
            cohort.spawn, [command, *args], name=name, env=env, cwd=cwd, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=errlog, bufsize=0, start_new_session=True,
        )  # fmt: skip
        return _Server(await anyio.to_thread.run_sync(starting))

    try:
        async with _started_by(start)(server, errlog=errlog) as streams:
            yield streams
    except BaseException as error:
        await _leave(cohort, error)
        raise
    else:
        await _leave(cohort, None)


async def _leave(cohort: Cohort, error: BaseException | None) -> None:
    with anyio.CancelScope(shield=True):
        await anyio.to_thread.run_sync(cohort.close, error)


def _started_by(start: Callable[..., Any]) -> Callable[..., Any]:
    """Return the SDK's client with another start of the process; the SDK itself stays as it is."""
    theirs = getattr(sdk.stdio_client, "__wrapped__", None)
    if not isinstance(theirs, types.FunctionType) or _START not in theirs.__code__.co_names:
        version = importlib.metadata.version("mcp")
        raise UnavailableError(
            f"the MCP SDK {version} starts its servers in a way that is not known here",
            "put `scopekeeper run` before the server's command, and use the SDK's own client",
        )
    copied = types.FunctionType(
        theirs.__code__,
        {**theirs.__globals__, _START: start},
        theirs.__name__,
        theirs.__defaults__,
        theirs.__closure__,
    )
    copied.__kwdefaults__ = theirs.__kwdefaults__
    return contextlib.asynccontextmanager(copied)


class _Server(anyio.abc.Process):
    """A member as the SDK wants to have it, in either of anyio's event loops."""

    def __init__(self, process: Process) -> None:
        self._popen = process
        assert process.stdin is not None  # noqa: S101  started with pipes
        assert process.stdout is not None  # noqa: S101
        self._stdin = _Pipe(process.stdin)
        self._stdout = _Pipe(process.stdout)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        return self._popen.poll()

    @property
    def stdin(self) -> anyio.abc.ByteSendStream:
        return self._stdin

    @property
    def stdout(self) -> anyio.abc.ByteReceiveStream:
        return self._stdout

    @property
    def stderr(self) -> None:
        return None

    async def wait(self) -> int:
        with contextlib.suppress(ProcessLookupError):
            pidfd = os.pidfd_open(self.pid)
            try:
                await anyio.wait_readable(pidfd)
            finally:
                os.close(pidfd)
        return self._popen.wait()

    def send_signal(self, signal: signal.Signals) -> None:
        self._popen.send_signal(signal)

    def terminate(self) -> None:
        self._popen.terminate()

    def kill(self) -> None:
        self._popen.kill()

    async def aclose(self) -> None:
        """Close its pipes and wait for its end; killed where that is cancelled, as anyio has it."""
        await self._stdin.aclose()
        await self._stdout.aclose()
        try:
            await self.wait()
        except BaseException:
            self._popen.kill()
            with anyio.CancelScope(shield=True):
                await self.wait()
            raise


class _Pipe(anyio.abc.ByteSendStream, anyio.abc.ByteReceiveStream):
    """One end of a pipe."""

    def __init__(self, file: Any) -> None:  # noqa: ANN401
        self._file = file
        os.set_blocking(file.fileno(), False)

    async def receive(self, max_bytes: int = _MOST) -> bytes:
        while True:
            try:
                chunk = os.read(self._fd(), max_bytes)
            except BlockingIOError:
                await anyio.wait_readable(self._fd())
                continue
            if not chunk:
                raise anyio.EndOfStream
            await anyio.lowlevel.checkpoint()
            return chunk

    async def send(self, item: bytes) -> None:
        left = memoryview(item)
        while left:
            try:
                left = left[os.write(self._fd(), left) :]
            except BlockingIOError:
                await anyio.wait_writable(self._fd())
            except OSError as error:
                raise anyio.BrokenResourceError from error
        await anyio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        if not self._file.closed:
            anyio.notify_closing(self._file)
            self._file.close()
        await anyio.lowlevel.checkpoint()

    def _fd(self) -> int:
        if self._file.closed:
            raise anyio.ClosedResourceError
        return int(self._file.fileno())
