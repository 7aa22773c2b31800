"""One client's connection to the keeper: a request, and what comes of it."""

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any

from scopekeeper.errors import ScopekeeperError
from scopekeeper.keeper.pty.flow import Input, Viewer
from scopekeeper.keeper.pty.live import Live
from scopekeeper.keeper.pty.runs import Runs
from scopekeeper.pty import log, protocol, run
from scopekeeper.pty.protocol import Frames, ProtocolError
from scopekeeper.pty.run import Run

_FDS_MOST = 4


class Conversation:
    """Serves one client; runs are those of the keeper, clients all that are connected."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connection: socket.socket,
        runs: Runs,
        clients: "set[Conversation]",
    ) -> None:
        self._loop = loop
        self._socket = connection
        self._runs = runs
        self._clients = clients
        self._frames = Frames()
        self._out = bytearray()
        self._last_words = False
        self._descriptors: list[int] = []
        self._serve: Callable[[bytes, bytes], None] = self._begin
        self._ended: Callable[[], None] = self.close
        """Called where the client has nothing more to say."""
        self._input: Input | None = None
        self._viewer: Viewer | None = None
        self._undo: list[Callable[[], None]] = []
        connection.setblocking(False)
        loop.add_reader(connection.fileno(), self._read)

    def close(self) -> None:
        """Hang up."""
        if self._socket.fileno() < 0:
            return
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        for fd in self._descriptors:
            os.close(fd)
        self._descriptors.clear()
        for undo in self._undo:
            undo()
        self._clients.discard(self)

    # What comes

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
            self._ended()
            return
        try:
            for kind, payload in self._frames.feed(data):
                self._serve(kind, payload)
        except ScopekeeperError as error:
            self.say_last(problem=error.message, hint=error.hint, status=error.status)
        except (ProtocolError, KeyError, TypeError, ValueError) as error:
            self.say_last(problem=f"the keeper does not understand: {error}", hint="", status=1)
        except OSError as error:
            self.say_last(problem=f"{error.strerror or error}", hint="", status=1)

    def hear(self, listening: bool) -> None:
        """Read what the client sends, or let it wait."""
        if self._socket.fileno() >= 0:
            if listening:
                self._loop.add_reader(self._socket.fileno(), self._read)
            else:
                self._loop.remove_reader(self._socket.fileno())

    # What goes

    def say(self, **values: object) -> None:
        """Send a message."""
        self.send(protocol.message(**values))

    def say_last(self, **values: object) -> None:
        """Send a message, then hang up."""
        self._serve = _ignore
        self._last_words = True
        self.say(**values)

    def send(self, data: bytes) -> None:
        """Send bytes, the rest of them when they can be taken."""
        if self._socket.fileno() < 0:
            return
        self._out += data
        self._flush()

    @property
    def is_behind(self) -> bool:
        """Whether there is something that the client has not taken yet."""
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

    # What can be asked

    def _begin(self, kind: bytes, payload: bytes) -> None:
        if kind != protocol.JSON:
            raise ProtocolError("a request comes first")
        request = protocol.parse(payload)
        what = str(request.get("do"))
        serve = {
            "hold": self._hold, "started": self._started, "failed": self._failed,
            "attach": self._attach, "send": self._send, "wait": self._wait, "list": self._list,
        }.get(what)  # fmt: skip
        if serve is None:
            raise ScopekeeperError(
                f"this keeper cannot {what!r}", "restart it: systemctl restart scopekeeper"
            )
        serve(request)

    def _hold(self, request: dict[str, Any]) -> None:
        descriptors, self._descriptors = self._descriptors, []
        try:
            self._runs.hold(run.parse(request["run"]), descriptors)
        except ScopekeeperError:
            self._descriptors = descriptors
            raise
        self._serve = self._begin
        self.say(ok=True)

    def _started(self, request: dict[str, Any]) -> None:
        pidfd = self._descriptors.pop() if self._descriptors else -1
        self._runs.started(request["run"], int(request["pid"]), int(request["start"]), pidfd)
        self.say(ok=True)

    def _failed(self, request: dict[str, Any]) -> None:
        self._runs.forget(request["run"], int(request["status"]))
        self.say(ok=True)

    def _list(self, _request: dict[str, Any]) -> None:
        self.say(ok=True, runs=[live.run.id for live in self._runs.live.values()])

    def _wait(self, request: dict[str, Any]) -> None:
        known = self._run(request)
        self.say(ok=True, run=run.plain(known))
        live = self._runs.live.get(known.id)
        if known.ended is not None or live is None:
            self.tell_end(known)
            return

        def ended() -> None:
            self.tell_end(live.run)

        self._listen_to(live.on_end, ended)

    def tell_end(self, known: Run) -> None:
        """Say how a run ended, and hang up."""
        self.say_last(ended=run.plain_end(known.ended))

    def _attach(self, request: dict[str, Any]) -> None:
        known = self._run(request)
        live = self._runs.live.get(known.id)
        if live is not None:
            known = live.measured()
        position = int(request["from"])
        if position < 0:
            position = live.log.end if live is not None else log.end(known.folder)
        lost = live is not None and live.held is None and known.ended is None
        self.say(ok=True, run=run.plain(known), lost=lost, **{"from": position})
        self._viewer = Viewer(self, self._loop, known, live, position)
        if live is not None:
            self._listen_to(live.on_output, self._viewer.more_soon)
            self._listen_to(live.on_end, self._viewer.more_soon)
            self._size(live, request)
        self._viewer.more_soon()

    def _size(self, live: Live, request: dict[str, Any]) -> None:
        """Take part in the size of the window, and in the input, unless this only looks."""
        self._serve = _ignore
        if request.get("read_only"):
            return
        if live.held is not None:
            self._input = Input(self, live)
        cols, rows = int(request.get("cols") or 0), int(request.get("rows") or 0)
        if cols > 0 and rows > 0:
            live.resize(self, cols, rows)
        self._undo.append(lambda: live.resize(self, 0, 0))

        def heard(kind: bytes, payload: bytes) -> None:
            if kind == protocol.JSON:
                size = protocol.parse(payload)["resize"]
                live.resize(self, int(size[0]), int(size[1]))
            elif self._input is not None:
                self._input.take(kind, payload)

        self._serve = heard

    def _send(self, request: dict[str, Any]) -> None:
        known = self._run(request)
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

        timer = self._loop.call_later(float(request.get("seconds") or 5.0), too_late)
        self._undo.append(timer.cancel)
        self._ended = lambda: taking.when_done(done)

    def _run(self, request: dict[str, Any]) -> Run:
        """Return the run that is meant, as it is now."""
        live = self._runs.live.get(str(request["run"]))
        return live.run if live is not None else run.find(str(request["run"]))

    def _listen_to(self, calls: list[Callable[[], None]], call: Callable[[], None]) -> None:
        calls.append(call)
        self._undo.append(lambda: calls.remove(call))


def _ignore(_kind: bytes, _payload: bytes) -> None:
    """Stand in where nothing that comes means anything."""
