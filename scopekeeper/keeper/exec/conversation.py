"""One client's connection to the keeper: its request and the answers."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable

from scopekeeper.errors import LimitError, ScopekeeperError
from scopekeeper.exec import log, messages, protocol, run
from scopekeeper.exec.protocol import RESTART_HINT, Frames, ProtocolError
from scopekeeper.exec.run import Run
from scopekeeper.keeper.exec.flow import Input, Viewer
from scopekeeper.keeper.exec.live import Live
from scopekeeper.keeper.exec.runs import Runs

_log = logging.getLogger("scopekeeper")

PATIENCE = 10.0
"""Seconds for a client to send a request, and to take the last answer."""
_FDS_MOST = 4
_BEHIND_MOST = 1 << 20
"""Bytes to buffer for a client."""
_CORRECT = "correct the request, or send it with the scopekeeper of the keeper's version"


class Conversation:
    """Serves one client.

    Whatever the client sends or does not send, it ends this conversation at most. over is called
    once, with this conversation, when it has ended.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connection: socket.socket,
        runs: Runs,
        over: "Callable[[Conversation], None]",
    ) -> None:
        self._loop = loop
        self._socket = connection
        self._runs = runs
        self._over = over
        self._frames = Frames(protocol.MOST_ASKED)
        self._out = bytearray()
        self._last_words = False
        self._descriptors: list[int] = []
        self._serve: Callable[[bytes, bytes], None] = self._begin
        self._ended: Callable[[], None] = self.close
        """Called when the client shuts down its direction."""
        self._input: Input | None = None
        self._viewer: Viewer | None = None
        self._undo: list[Callable[[], None]] = []
        self.is_silent = True
        """Whether the client has not sent a request yet."""
        connection.setblocking(False)
        loop.add_reader(connection.fileno(), self._read)
        self._timer = loop.call_later(PATIENCE, self.close)

    def close(self) -> None:
        """Hang up."""
        if self._socket.fileno() < 0:
            return
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        self._timer.cancel()
        self._close_descriptors()
        self._over(self)
        undo, self._undo = self._undo, []
        for each in undo:
            each()
        # break reference cycles, else the buffers wait for the garbage collector
        self._serve, self._ended, self._viewer, self._input = _ignore, _nothing, None, None

    def _close_descriptors(self) -> None:
        """Close descriptors that came with a request and are not held."""
        for fd in self._descriptors:
            os.close(fd)
        self._descriptors.clear()

    # Receiving

    def _read(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(
                self._socket, protocol.PIECE, _FDS_MOST, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._descriptors += descriptors
        if not data:
            self._loop.remove_reader(self._socket.fileno())
            self.attempt(self._ended)
            return
        self.attempt(self._take, data)

    def _take(self, data: bytes) -> None:
        """Serve the frames that are complete now."""
        if len(self._descriptors) > _FDS_MOST:
            raise ProtocolError("too many descriptors")
        for kind, payload in self._frames.feed(data):
            if self._socket.fileno() < 0:
                return
            self._serve(kind, payload)

    def attempt(self, work: Callable[..., None], *arguments: object) -> None:
        """Run a part of this conversation; an error is answered, and ends it."""
        try:
            work(*arguments)
        except ScopekeeperError as error:
            self._refuse(error)
        except ProtocolError as error:
            self._refuse(ScopekeeperError(f"the keeper does not understand: {error}", _CORRECT))
        except OSError as error:
            self._refuse(ScopekeeperError(error.strerror or str(error)))
        except Exception:  # noqa: BLE001
            # our own bug must not leave the client waiting, nor affect another one
            _log.exception("internal error, in the conversation with a client")
            self._refuse(ScopekeeperError("the keeper failed", "its journal has the details"))

    def _refuse(self, error: ScopekeeperError) -> None:
        self._close_descriptors()
        self.say_last(problem=error.message, hint=error.hint, status=error.status)

    def hear(self, listening: bool) -> None:
        """Read from the client, or let it wait."""
        if self._socket.fileno() >= 0:
            if listening:
                self._loop.add_reader(self._socket.fileno(), self._read)
            else:
                self._loop.remove_reader(self._socket.fileno())

    # Sending

    def say(self, **values: object) -> None:
        """Send a message."""
        self.send(protocol.message(**values))

    def say_last(self, **values: object) -> None:
        """Send a message, then hang up, after a while even if the client does not take it."""
        self._serve = _ignore
        self._last_words = True
        self._timer.cancel()
        self._timer = self._loop.call_later(PATIENCE, self.close)
        self.say(**values)

    def send(self, data: bytes) -> None:
        """Send bytes, buffering those that the client does not take yet."""
        if self._socket.fileno() < 0:
            return
        self._out += data
        self._flush()
        if len(self._out) > _BEHIND_MOST:
            self.close()  # it sends requests and does not read the answers

    @property
    def is_behind(self) -> bool:
        """Whether bytes are buffered for the client."""
        return bool(self._out)

    def _flush(self) -> None:
        try:
            while self._out:
                del self._out[: self._socket.send(self._out)]
        except BlockingIOError:
            self._loop.add_writer(self._socket.fileno(), self._flush)
            return
        except OSError:
            self.close()
            return
        self._loop.remove_writer(self._socket.fileno())
        if self._last_words:
            self.close()
        elif self._viewer is not None:
            self._viewer.more_soon()

    # Requests

    def _begin(self, kind: bytes, payload: bytes) -> None:
        if kind != protocol.JSON:
            raise ProtocolError("a request comes first")
        request = messages.request(payload)
        self.is_silent = False
        self._timer.cancel()
        match request:
            case messages.Hold(new):
                self._hold(new)
            case messages.Started():
                self._started(request)
            case messages.Failed(run_id, status):
                self._runs.forget(run_id, status)
                self.say(ok=True)
            case messages.Attach():
                self._attach(request)
            case messages.Send():
                self._send(request)
            case messages.Wait(run_id):
                self._wait(self._run(run_id))
            case messages.List():
                self.say(ok=True, runs=list(self._runs.live))
            case messages.Other(what):
                raise ScopekeeperError(f"this keeper cannot {what!r}", RESTART_HINT)
        self._close_descriptors()

    def _hold(self, new: Run) -> None:
        try:
            self._runs.hold(new, self._descriptors)
        except OSError as error:
            raise LimitError(
                f"the keeper cannot hold another run: {error.strerror}",
                "stop some, or raise LimitNOFILE= of its service",
            ) from None
        self._descriptors = []
        self._undo.append(lambda: self._runs.abandon(new.id))
        self.say(ok=True)

    def _started(self, request: messages.Started) -> None:
        pidfd = self._descriptors[-1] if self._descriptors else -1
        self._runs.started(request.run, request.pid, request.start, pidfd)
        del self._descriptors[-1:]
        self.say(ok=True)

    def _wait(self, known: Run) -> None:
        live = self._runs.live.get(known.id)
        self.say(ok=True, run=run.plain(known), lost=_is_lost(live, known))
        if known.ended is not None or live is None:
            self.tell_end(known)
            return

        def ended() -> None:
            self.tell_end(live.run)

        self._listen_to(live.on_end, ended)

    def tell_end(self, known: Run) -> None:
        """Report how a run ended, and hang up."""
        self.say_last(ended=run.plain_end(known.ended))

    def _attach(self, request: messages.Attach) -> None:
        known = self._run(request.run)
        live = self._runs.live.get(known.id)
        if live is not None:
            known = live.measured()
        position = request.position
        if position < 0:
            position = live.log.end if live is not None else log.end(known.folder)
        lost = _is_lost(live, known)
        self.say(ok=True, run=run.plain(known), lost=lost, **{"from": position})
        self._viewer = Viewer(self, self._loop, known, live, position)
        if live is not None:
            self._listen_to(live.on_output, self._viewer.more_soon)
            self._listen_to(live.on_end, self._viewer.more_soon)
            self._size(live, request)
        self._viewer.more_soon()

    def _size(self, live: Live, request: messages.Attach) -> None:
        """Let the client resize the window and send input, unless it is read-only."""
        self._serve = _ignore
        if request.read_only:
            return
        if live.held is not None:
            self._input = Input(self, live)
        if request.cols and request.rows:
            live.resize(self, request.cols, request.rows)
        self._undo.append(lambda: live.resize(self, 0, 0))

        def heard(kind: bytes, payload: bytes) -> None:
            if kind == protocol.JSON:
                live.resize(self, *messages.resize(payload))
            elif self._input is not None:
                self._input.take(kind, payload)

        self._serve = heard

    def _send(self, request: messages.Send) -> None:
        known = self._run(request.run)
        run.refuse_input(known)
        live = self._runs.get(known.id)
        if live.held is None:
            why = "its terminal went with the keeper that held it"
            raise ScopekeeperError(f"the run {known.id} takes no input any more: {why}")
        taking = self._input = Input(self, live)
        self._serve = taking.take
        self.say(ok=True)

        def done() -> None:
            self.say_last(ok=True, bytes=taking.taken)

        def too_late() -> None:
            text = f"the run took {taking.taken} bytes, and {taking.left} it did not"
            self.say_last(problem=text, hint="it does not read its input", status=1)

        timer = self._loop.call_later(request.seconds, too_late)
        self._undo.append(timer.cancel)
        self._ended = lambda: taking.when_done(done)

    def _run(self, run_id: str) -> Run:
        """Return the current record of a run; raises ScopekeeperError."""
        live = self._runs.live.get(run_id)
        return live.run if live is not None else run.find(run_id)

    def _listen_to(self, calls: list[Callable[[], None]], call: Callable[[], None]) -> None:
        calls.append(call)
        self._undo.append(lambda: calls.remove(call))


def _is_lost(live: Live | None, known: Run) -> bool:
    """Return whether a run goes on whose terminal went with the keeper that held it."""
    return live is not None and live.held is None and known.ended is None


def _nothing() -> None:
    """Do nothing."""


def _ignore(_kind: bytes, _payload: bytes) -> None:
    """Ignore a frame."""
