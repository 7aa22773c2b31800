"""The output and input that flow between a run and one client."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from scopekeeper.exec import log, protocol
from scopekeeper.exec.run import Run
from scopekeeper.keeper.exec.live import Live

_PIECES = 4
"""Pieces of output for one viewer before the event loop continues."""


class Client(Protocol):
    """The conversation with the client."""

    @property
    def is_behind(self) -> bool:
        """Whether bytes are buffered for the client."""
        ...

    def say(self, **values: object) -> None:
        """Send a message."""

    def send(self, data: bytes) -> None:
        """Send bytes, buffering those that the client does not take yet."""

    def hear(self, listening: bool) -> None:
        """Read from the client, or let it wait."""

    def attempt(self, work: Callable[..., None]) -> None:
        """Run a part of the conversation; an error is answered, and ends it."""

    def tell_end(self, known: Run) -> None:
        """Report how a run ended, and hang up."""


class Viewer:
    """Sends the log of a run from a position on, and how it ended.

    It reads the log, so a slow viewer costs no memory and delays nobody.
    """

    def __init__(
        self,
        client: Client,
        loop: asyncio.AbstractEventLoop,
        known: Run,
        live: Live | None,
        position: int,
    ) -> None:
        self._client = client
        self._loop = loop
        self._run = known
        self._live = live
        self._position = position
        self._coming: asyncio.Handle | None = None
        self._folder = known.folder
        self._over = False

    def more_soon(self) -> None:
        """Send more output in the next turn of the event loop."""
        if self._coming is None and not self._over:
            self._coming = self._loop.call_soon(self._client.attempt, self._more)

    def _more(self) -> None:
        self._coming = None
        for _ in range(_PIECES):
            if self._client.is_behind or self._over:
                return  # called again once the client has taken all
            position, data = log.read(self._folder, self._position, protocol.PIECE)
            if position > self._position:
                self._client.say(missed=position - self._position)
            self._position = position + len(data)
            if not data:
                self._end()
                return
            self._client.send(protocol.frame(protocol.DATA, data))
        self.more_soon()

    def _end(self) -> None:
        """Report how the run ended, if it has."""
        known = self._live.run if self._live is not None else self._run
        if known.ended is not None or self._live is None:
            self._over = True
            self._client.tell_end(known)


class Input:
    """Writes input as fast as the run takes it; meanwhile the client waits."""

    def __init__(self, client: Client, live: Live) -> None:
        self._client = client
        self._live = live
        self._pending = bytearray()
        self._ends = False
        self._done: Callable[[], None] | None = None
        self.taken = 0

    @property
    def left(self) -> int:
        """Bytes that the run has not taken yet."""
        return len(self._pending)

    def take(self, kind: bytes, payload: bytes) -> None:
        """Accept a frame of the client."""
        if kind == protocol.DATA:
            self._pending += payload
        elif kind == protocol.END:
            self._ends = True
        self._go_on()

    def when_done(self, call: Callable[[], None]) -> None:
        """Call once the run has taken all."""
        self._done = call
        self._go_on()

    def _go_on(self) -> None:
        held = self._live.held
        try:
            while held is not None and (self._pending or self._ends):
                if not self._pending:
                    self._ends = False
                    self._pending += held.end_input()
                    continue
                written = held.write(bytes(self._pending[: protocol.PIECE]))
                if not written:
                    self._client.hear(False)
                    held.when_writable(self._go_on)
                    return
                del self._pending[:written]
                self.taken += written
        except OSError:
            self._pending.clear()  # its terminal is closed, which the end of the run reports
        if self._done is not None:
            done, self._done = self._done, None
            done()
        else:
            self._client.hear(True)
