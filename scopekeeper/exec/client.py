"""A client's connection to the keeper of this uid.

``_socket`` has all that is needed: ``socket`` takes as long to import as the rest of this room.
"""

import _socket
import contextlib
import os
import select
import struct
import time
from collections.abc import Callable, Iterator, Sequence

from scopekeeper.errors import ScopekeeperError, UnavailableError
from scopekeeper.exec import messages, protocol
from scopekeeper.exec.protocol import RESTART_HINT, Frames, ProtocolError
from scopekeeper.exec.silence import Silence, await_answer
from scopekeeper.keeper_address import address, reachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

_HUNG_UP = "the keeper hung up"
_PAUSE = 0.05
_DONT_WAIT = _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL
RESTART = 10.0
"""Seconds to wait for a keeper that restarts."""


class Connection:
    """One request to the keeper and its answers; a context manager that hangs up."""

    def __init__(self, patience: float = 0.0) -> None:
        """Connect; raises UnavailableError if no keeper listens.

        patience is how many seconds to wait for one.
        """
        self._frames = Frames()
        self._waiting: list[tuple[bytes, bytes]] = []
        deadline = time.monotonic() + patience
        while True:
            try:
                self._connect()
            except UnavailableError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE)
            else:
                return

    def _connect(self) -> None:
        self.socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            with reachable(address()) as name:
                self.socket.connect(name)
        except OSError as error:
            self.socket.close()
            raise UnavailableError(f"no keeper listens at {address()}: {error.strerror}") from None
        self._pid, uid, _ = struct.unpack(
            "iII", self.socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
        )
        if uid not in (0, os.geteuid()):
            self.socket.close()
            raise UnavailableError(f"uid {uid} listens at {address()}, which is not its place")

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def ask(self, *descriptors: int, **request: object) -> "dict[str, Any]":
        """Send a request and return its answer, which the keeper gives at once.

        Raises the ScopekeeperError that it reports, or SilentError.
        """
        self._request(descriptors, request)
        return self.answer(self.silence())

    def silence(self, *, stopped: int = 1, is_due: Callable[[], bool] | None = None) -> Silence:
        """Return a watch for the silence of this keeper, as ``Silence`` describes it."""
        if is_due is None:
            return Silence(self._pid, stopped=stopped)
        return Silence(self._pid, stopped=stopped, is_due=is_due)

    def _request(self, descriptors: Sequence[int], request: dict[str, object]) -> None:
        data = protocol.message(**request)
        # if the keeper hangs up early, its answer says why
        with contextlib.suppress(OSError):
            passed = struct.pack(f"{len(descriptors)}i", *descriptors)
            rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, passed)] if descriptors else []
            sent = self.socket.sendmsg([data], rights)
            if sent < len(data):
                self.socket.sendall(data[sent:])

    def answer(self, silence: Silence) -> "dict[str, Any]":
        """Wait for the next answer; raises ScopekeeperError, SilentError if silence says so."""
        while True:
            if not self._waiting:
                with _broken():
                    await_answer(self.socket, silence)
            kind, payload = self.receive()
            if kind == protocol.JSON:
                with understood():
                    values = protocol.parse(payload)
                    messages.raise_problem(values)
                    return values
            if not kind:
                raise UnavailableError(_HUNG_UP)

    def send(self, silence: Silence, kind: bytes, payload: bytes = b"") -> None:
        """Send one frame; raises ScopekeeperError, SilentError if silence says so."""
        data = memoryview(protocol.frame(kind, payload))
        with _broken():
            while data:
                try:
                    data = data[self.socket.send(data, _DONT_WAIT) :]
                except BlockingIOError:
                    await_answer(self.socket, silence, select.POLLOUT)

    def receive(self) -> tuple[bytes, bytes]:
        """Wait for one frame; an empty kind if the keeper hung up."""
        while not self._waiting:
            with _broken():
                data = self.socket.recv(protocol.PIECE)
            if not data:
                return b"", b""
            with understood():
                self._waiting += self._frames.feed(data)
        return self._waiting.pop(0)

    def take(self) -> list[tuple[bytes, bytes]] | None:
        """Return the frames that have arrived, without waiting; None if the keeper hung up.

        Call it before waiting, too: frames may have arrived together with an answer.
        """
        taken, self._waiting = self._waiting, []
        if taken:
            return taken
        with _broken():
            try:
                data = self.socket.recv(protocol.PIECE, _socket.MSG_DONTWAIT)
            except BlockingIOError:
                return []
        with understood():
            return list(self._frames.feed(data)) if data else None


@contextlib.contextmanager
def understood() -> Iterator[None]:
    """Turn ProtocolError, from a keeper of another version, into ScopekeeperError."""
    try:
        yield
    except ProtocolError as error:
        raise ScopekeeperError(
            f"the keeper's answer is not understood: {error}", RESTART_HINT
        ) from None


@contextlib.contextmanager
def _broken() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnavailableError(f"{_HUNG_UP}: {error.strerror or error}") from None
