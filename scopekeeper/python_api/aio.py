"""A member with the interface of ``asyncio.subprocess.Process``, in any event loop.

A thread starts it, since that may block. Then the loop serves its pipes, and a pidfd reports its
end. Only the public interface of loops is used.
"""

import asyncio
import os
import subprocess
import threading
from collections.abc import Callable
from typing import Any

from scopekeeper.errors import UsageError
from scopekeeper.python_api.process import Process

_TEXT = ("text", "universal_newlines", "encoding", "errors")
_LIMIT = 65536
"""Bytes that a stream buffers, as asyncio has it by default."""
_REAP_SECONDS = 1.0
"""How long to wait for a killed process; one that takes longer is reaped later."""


class AsyncProcess:
    """A started member: the interface of ``asyncio.subprocess.Process``, and where it lives."""

    def __init__(self, process: Process) -> None:
        self.process = process
        """The ``Popen`` behind it; its pipes belong to the streams here."""
        self.pid = process.pid
        """The command's."""
        self.scope = process.scope
        """The unit of its scope; '' where it was started uncontained."""
        self.member = process.member
        """The name of its leaf there, which is the name and an id."""
        self.directory = process.directory
        """The leaf's directory in the cgroup2 hierarchy."""
        self.stdin: asyncio.StreamWriter | None = None
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self._ended = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        return f"<AsyncProcess {self.pid} {self.member} returncode={self.returncode}>"

    @property
    def returncode(self) -> int | None:
        """Its exit status, negative where a signal ended it, None while it runs."""
        return self.process.poll()

    async def wait(self) -> int:
        """Wait until it has ended, and return its exit status."""
        await asyncio.shield(self._ended)
        return self.process.wait()

    def send_signal(self, number: int) -> None:
        """Send it a signal; nothing where it has ended."""
        self.process.send_signal(number)

    def terminate(self) -> None:
        """Send it SIGTERM. Its helpers get none; the cohort stops them."""
        self.process.terminate()

    def kill(self) -> None:
        """Send it SIGKILL."""
        self.process.kill()

    async def communicate(self, input: bytes | None = None) -> tuple[bytes | None, bytes | None]:  # noqa: A002
        """Write input, read all that it writes, and wait for its end."""
        _, out, err = await asyncio.gather(
            self._feed(input), self._read(self.stdout), self._read(self.stderr)
        )
        await self.wait()
        return out, err

    async def _feed(self, text: bytes | None) -> None:
        if self.stdin is None:
            return
        try:
            if text is not None:
                self.stdin.write(text)
                await self.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            pass  # the member has closed its stdin
        finally:
            self.stdin.close()

    async def _read(self, stream: asyncio.StreamReader | None) -> bytes | None:
        return None if stream is None else await stream.read()

    async def _connect(self, limit: int) -> None:
        loop = asyncio.get_running_loop()
        self._watch(loop)
        stdin, stdout, stderr = self.process.stdin, self.process.stdout, self.process.stderr
        self.process.stdin = self.process.stdout = self.process.stderr = None
        if stdin is not None:
            # a writer needs a protocol with flow control; this one never reads
            transport, protocol = await loop.connect_write_pipe(
                lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), stdin
            )
            self.stdin = asyncio.StreamWriter(transport, protocol, None, loop)
        if stdout is not None:
            self.stdout = await _reader(loop, stdout, limit)
        if stderr is not None:
            self.stderr = await _reader(loop, stderr, limit)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wake those who wait when the process ends."""
        try:
            pidfd = os.pidfd_open(self.pid)
        except OSError:  # already reaped
            self._ended.set_result(None)
            return

        def ended() -> None:
            loop.remove_reader(pidfd)
            os.close(pidfd)
            self.process.poll()
            if not self._ended.done():
                self._ended.set_result(None)

        loop.add_reader(pidfd, ended)


async def _reader(
    loop: asyncio.AbstractEventLoop,
    pipe: Any,  # noqa: ANN401
    limit: int,
) -> asyncio.StreamReader:
    stream = asyncio.StreamReader(limit)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), pipe)
    return stream


async def spawn(start: Callable[..., Process], popen: dict[str, Any]) -> AsyncProcess:
    """Start a member in a thread, and kill it if that is cancelled."""
    if any(popen.get(name) for name in _TEXT):
        raise UsageError("asyncio streams carry bytes; decode what they read")
    limit = popen.pop("limit", _LIMIT)
    starting = _Starting(lambda: start(bufsize=0, **popen))
    try:
        process = await asyncio.to_thread(starting.run)
    except asyncio.CancelledError:
        starting.give_up()
        raise
    member = AsyncProcess(process)
    try:
        await member._connect(limit)  # noqa: SLF001
    except BaseException:
        process.kill()
        raise
    return member


class _Starting:
    """A start in a thread, which continues when its task is cancelled.

    What it has started is then ended in a thread too: that may block, and the loop may be closed
    by then.
    """

    def __init__(self, start: Callable[[], Process]) -> None:
        self._start = start
        self._lock = threading.Lock()
        self._process: Process | None = None
        self._is_wanted = True

    def run(self) -> Process:
        """Start it; blocks."""
        process = self._start()
        with self._lock:
            self._process, is_wanted = process, self._is_wanted
        if not is_wanted:
            _end(process)
        return process

    def give_up(self) -> None:
        """End it as soon as it has started; does not block."""
        with self._lock:
            self._is_wanted = False
            process = self._process
        if process is not None:
            threading.Thread(target=_end, args=(process,)).start()


def _end(process: Process) -> None:
    """End a process that nobody received; its cohort stops the rest of its leaf."""
    process.kill()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    try:
        process.wait(_REAP_SECONDS)
    except subprocess.TimeoutExpired:
        return
