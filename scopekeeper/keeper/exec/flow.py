"""What flows between a run and one of its clients."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from scopekeeper.exec import log, protocol
from scopekeeper.exec.run import Run
from scopekeeper.keeper.exec.live import Live

_PIECES = 4
"""Pieces of output for one viewer before others have their turn."""


class Client(Protocol):
    """Who is at the other end."""

    @property
    def is_behind(self) -> bool:
        """Whether there is something that the client has not taken yet."""
        ...

    def say(self, **values: object) -> None:
        """Send a message."""

    def send(self, data: bytes) -> None:
        """Send bytes, the rest of them when they can be taken."""

    def hear(self, listening: bool) -> None:
        """Read what the client sends, or let it wait."""

    def attempt(self, work: Callable[..., None]) -> None:
        """Do a part of the conversation; what goes wrong is answered, and ends it."""

    def tell_end(self, known: Run) -> None:
        """Say how a run ended, and hang up."""


class Viewer:
    """Sends the log of a run from a position on, and how it ended.

    It reads what was recorded: a viewer that is slow takes nobody's time or memory.
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
        """Send what there is, when others have had their turn."""
        if self._coming is None and not self._over:
            self._coming = self._loop.call_soon(self._client.attempt, self._more)

    def _more(self) -> None:
        self._coming = None
        for _ in range(_PIECES):
            if self._client.is_behind or self._over:
                return  # it is called again when the client has taken that
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
        """Say how it ended, if it has."""
        known = self._live.run if self._live is not None else self._run
        if known.ended is not None or self._live is None:
            self._over = True
            self._client.tell_end(known)


class Input:
    """Hands input over as fast as the run takes it; meanwhile the client waits."""

    def __init__(self, client: Client, live: Live) -> None:
        self._client = client
        self._live = live
        self._pending = bytearray()
        self._ends = False
        self._done: Callable[[], None] | None = None
        self.taken = 0

    @property
    def left(self) -> int:
        """How many bytes were not taken yet."""
        return len(self._pending)

    def take(self, kind: bytes, payload: bytes) -> None:
        """Take in a frame."""
        if kind == protocol.DATA:
            self._pending += payload
        elif kind == protocol.END:
            self._ends = True
        self._go_on()

    def when_done(self, call: Callable[[], None]) -> None:
        """Call when all that came was taken."""
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
            self._pending.clear()  # its terminal is closed: that is told as its end
        if self._done is not None:
            done, self._done = self._done, None
            done()
        else:
            self._client.hear(True)
