"""What ``subprocess.Popen`` documents, for a child that something else started.

Popen cannot start a child in a cgroup, and has no public way to be given one that runs. So only
its type is inherited: every public method is here, and nothing runs that relies on what Popen
keeps for itself.
"""

import contextlib
import fcntl
import io
import os
import select
import selectors
import signal
import subprocess
import sys
import threading
import time
import warnings
from types import TracebackType
from typing import IO, Any, ClassVar, cast

_READ_AT_ONCE = 32768
_INTERRUPTED_SECONDS = 0.25
"""How long a ``with`` block that ^C ends waits for its child, which got the same ^C."""


class PopenInterface(subprocess.Popen[Any]):
    """A child of this process. Whoever started it sets ``pid``; its pipes come from ``_open``."""

    pid = 0
    _unreaped: ClassVar[list["PopenInterface"]] = []
    """Children that nobody holds any more; the next one to start reaps those that have ended."""

    def __init__(self, args: Any) -> None:  # noqa: ANN401
        self.args = args
        self.stdin = self.stdout = self.stderr = None
        self.returncode: int | None = None
        self.text_mode = False
        self._reaping = threading.RLock()
        """Held while the child may be reaped: its pid is its own until then."""
        self._unsent = memoryview(b"")
        self._received: dict[IO[Any], bytearray] = {}
        self._is_communicating = False
        for each in self._unreaped[:]:
            if each.poll() is not None:
                with contextlib.suppress(ValueError):  # another thread was faster
                    self._unreaped.remove(each)

    def _open(self, asked: dict[str, Any], later: contextlib.ExitStack) -> tuple[int, int, int]:
        """Open the pipes that are asked for; return the child's stdin, stdout and stderr.

        -1 leaves one as it is. ``later`` closes the child's ends.
        """
        self.text_mode = asked["text"]
        stdin = self._redirect("stdin", asked, later)
        stdout = self._redirect("stdout", asked, later)
        if asked["stderr"] != subprocess.STDOUT:
            return stdin, stdout, self._redirect("stderr", asked, later)
        if stdout >= 0 or sys.__stdout__ is None:
            return stdin, stdout, stdout
        return stdin, stdout, sys.__stdout__.fileno()

    def _redirect(self, name: str, asked: dict[str, Any], later: contextlib.ExitStack) -> int:
        target = asked[name]
        if target is None:
            return -1
        if target == subprocess.DEVNULL:
            theirs = os.open(os.devnull, os.O_RDWR)
            later.callback(os.close, theirs)
        elif target == subprocess.PIPE:
            pipe = os.pipe()
            theirs, ours = pipe if name == "stdin" else reversed(pipe)
            later.callback(os.close, theirs)
            setattr(self, name, self._stream(ours, name == "stdin", asked))
            if asked["pipesize"] > 0:
                fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, asked["pipesize"])
        else:
            theirs = target if isinstance(target, int) else target.fileno()
        return theirs

    def _stream(self, fd: int, is_input: bool, asked: dict[str, Any]) -> IO[Any]:
        binary: Any = open(fd, "wb" if is_input else "rb", asked["bufsize"])  # noqa: SIM115
        if not self.text_mode:
            return cast("IO[bytes]", binary)
        is_line_buffered = is_input and asked["line_buffering"]
        return io.TextIOWrapper(
            binary, asked["encoding"], asked["errors"], None, is_line_buffered, is_input
        )

    def _close(self) -> None:
        with contextlib.ExitStack() as streams:
            for stream in filter(None, (self.stdin, self.stderr, self.stdout)):
                streams.callback(stream.close)

    def poll(self) -> int | None:
        """Return the exit status, negative where a signal ended it, None while it runs."""
        with self._reaping:
            if self.returncode is None and self.pid:
                try:
                    pid, status = os.waitpid(self.pid, os.WNOHANG)
                except ChildProcessError:  # reaped by something else: the status is lost
                    self.returncode = self.returncode or 0
                else:
                    if pid:
                        self.returncode = os.waitstatus_to_exitcode(status)
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended, and return its exit status; raises TimeoutExpired."""
        with self._reaping:
            status = self.poll()
            pidfd = os.pidfd_open(self.pid) if status is None else -1
        if status is not None:
            return status
        try:
            poller = select.poll()
            poller.register(pidfd, select.POLLIN)
            poller.poll(None if timeout is None else max(timeout, 0) * 1000)
        finally:
            os.close(pidfd)
        status = self.poll()
        if status is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return status

    def send_signal(self, sig: int) -> None:
        """Send it a signal; nothing where it has ended."""
        with self._reaping:
            if self.pid and self.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, sig)

    def terminate(self) -> None:
        """Send it SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send it SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def communicate(
        self,
        input: Any = None,  # noqa: A002, ANN401
        timeout: float | None = None,
    ) -> tuple[Any, Any]:
        """Write input, read all that it writes, and wait for its end; raises TimeoutExpired.

        After that it can be called again, without input, and nothing is lost.
        """
        end = None if timeout is None else time.monotonic() + timeout
        if not self._is_communicating:
            self._begin(input)
        elif input:
            raise ValueError("Cannot send input after starting communication")
        with selectors.PollSelector() as selector:
            if self.stdin and not self.stdin.closed:
                selector.register(self.stdin, selectors.EVENT_WRITE, self._send)
            for stream in filter(None, (self.stdout, self.stderr)):
                if not stream.closed:
                    selector.register(stream, selectors.EVENT_READ, self._receive)
            while selector.get_map():
                ready = selector.select(_left(end))
                if end is not None and time.monotonic() > end:
                    raise subprocess.TimeoutExpired(self.args, timeout or 0)
                for key, _ in ready:
                    if not key.data(key.fileobj):
                        selector.unregister(key.fileobj)
                        _close(key.fileobj)
        self.wait(_left(end))
        return self._whole(self.stdout), self._whole(self.stderr)

    def _begin(self, text: Any) -> None:  # noqa: ANN401
        self._is_communicating = True
        self._received = {each: bytearray() for each in (self.stdout, self.stderr) if each}
        stdin: Any = self.stdin
        if stdin and not stdin.closed:
            if self.text_mode and text:
                text = text.encode(stdin.encoding, stdin.errors)
            self._unsent = memoryview(text or b"").cast("B")
            with contextlib.suppress(BrokenPipeError):
                stdin.flush()
            if not text:
                _close(stdin)

    def _send(self, stream: IO[Any]) -> bool:
        """Write some of the input; False where no more can be written."""
        try:
            self._unsent = self._unsent[
                os.write(stream.fileno(), self._unsent[: select.PIPE_BUF]) :
            ]
        except BrokenPipeError:  # it has read all that it wanted
            return False
        return bool(self._unsent)

    def _receive(self, stream: IO[Any]) -> bool:
        """Read some of an output; False where that is at its end."""
        chunk = os.read(stream.fileno(), _READ_AT_ONCE)
        self._received[stream] += chunk
        return bool(chunk)

    def _whole(self, stream: Any) -> Any:  # noqa: ANN401
        """Return all that was read of a stream, as text where that was asked for."""
        if stream is None:
            return None
        whole = bytes(self._received[stream])
        if not self.text_mode:
            return whole
        return io.TextIOWrapper(io.BytesIO(whole), stream.encoding, stream.errors).read()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._close()
        finally:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.wait(_INTERRUPTED_SECONDS if kind is KeyboardInterrupt else None)

    def __del__(self) -> None:
        if self.pid and self.returncode is None:
            warnings.warn(f"process {self.pid} is still running", ResourceWarning, 2, self)
            if self.poll() is None:
                self._unreaped.append(self)


def _left(end: float | None) -> float | None:
    return None if end is None else max(0.0, end - time.monotonic())


def _close(stream: Any) -> None:  # noqa: ANN401
    with contextlib.suppress(BrokenPipeError):
        stream.close()
