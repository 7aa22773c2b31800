"""Serves a keeper's metrics over HTTP to a Prometheus, or to whoever else may connect.

It answers GET and HEAD of ``/metrics`` and nothing else. What a client sends is bounded, and so are
its time and the number of clients. Reading takes a thread, one at a time and at most once a second,
so that no client occupies the loop.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from scopekeeper.errors import ScopekeeperError, words
from scopekeeper.keeper import metrics_address
from scopekeeper.keeper.faults import Faults
from scopekeeper.keeper.jobs import in_thread
from scopekeeper.keeper.metrics_address import Address, TcpAddress
from scopekeeper.metrics.facts import Facts, Health

_log = logging.getLogger("scopekeeper")

_AGAIN = 30.0
"""Seconds until listening is tried again, after it failed."""
CLIENTS = 16
"""Clients to serve at once; more are refused."""
_SECONDS = 10.0
"""How long one client may take for its request, and for the answer."""
_LONGEST = 8192
"""Bytes of a request."""
_FRESH = 1.0
"""Seconds for which what was read answers later requests too."""
_END = b"\r\n\r\n"
_PATH = "/metrics"
_PLAIN = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class _Response:
    status: HTTPStatus
    content_type: str
    body: bytes

    def encoded(self, *, with_body: bool) -> bytes:
        """Return it as HTTP/1.1; the connection ends with it."""
        head = (
            f"HTTP/1.1 {self.status.value} {self.status.phrase}",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {len(self.body)}",
            "Connection: close",
            "X-Content-Type-Options: nosniff",
        )
        return "\r\n".join(head).encode() + _END + (self.body if with_body else b"")


class MetricsServer:
    """Serves at one address.

    read returns the facts; it is called in a thread. health is called in the loop.
    """

    def __init__(
        self, address: Address, read: Callable[[], Facts], health: Callable[[], Health]
    ) -> None:
        self._address = address
        self._read, self._health = read, health
        self._faults = Faults()
        self._clients = 0
        self._reading = asyncio.Lock()
        self._facts: Facts | None = None
        self._read_at = 0.0

    async def serve(self) -> None:
        """Serve until cancelled. If the address is taken, log that, and try again later."""
        try:
            await in_thread(_import)
        except ImportError as error:
            _log.error("no metrics are served: prometheus_client cannot be imported (%s)", error)
            return
        problem = ""
        while True:
            try:
                listening = metrics_address.listen(self._address)
            except ScopekeeperError as error:
                if str(error) != problem:
                    _log.error("no metrics are served: %s", error)
                problem = str(error)
                await asyncio.sleep(_AGAIN)
                continue
            try:
                await self._serve_at(listening)
            finally:
                metrics_address.close(self._address, listening)

    async def _serve_at(self, listening: socket.socket) -> None:
        tcp = isinstance(self._address, TcpAddress)
        start = asyncio.start_server if tcp else asyncio.start_unix_server
        server = await start(self._answer, sock=listening, limit=_LONGEST)
        _log.info("metrics are served at %s", self._address)
        if isinstance(self._address, TcpAddress) and not self._address.is_loopback:
            _log.warning("whoever can reach %s can read the names of sessions", self._address)
        async with server:
            await server.serve_forever()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        try:
            writer.transport.set_write_buffer_limits(0)  # drained once all is with the kernel
            async with asyncio.timeout(_SECONDS):
                if self._clients > CLIENTS:
                    response = _refusal(HTTPStatus.SERVICE_UNAVAILABLE)
                    writer.write(response.encoded(with_body=True))
                else:
                    head = await reader.readuntil(_END)
                    response = await self._respond(head)
                    writer.write(response.encoded(with_body=not head.startswith(b"HEAD ")))
                await writer.drain()
            writer.close()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.transport.abort()
        finally:
            self._clients -= 1

    async def _respond(self, head: bytes) -> _Response:
        first, *lines = head.decode("latin-1").split("\r\n")
        method, _, rest = first.partition(" ")
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        host = headers.get("host", "")
        if isinstance(self._address, TcpAddress) and not self._address.answers_to(host):
            return _refusal(HTTPStatus.FORBIDDEN)
        if method not in ("GET", "HEAD"):
            return _refusal(HTTPStatus.METHOD_NOT_ALLOWED)
        if rest.partition(" ")[0].partition("?")[0] != _PATH:
            return _refusal(HTTPStatus.NOT_FOUND)
        try:
            return await self._metrics(headers.get("accept", ""))
        except Exception as error:  # noqa: BLE001  a request must not end the keeper
            self._faults.log(f"metrics: {words(error)}", error)
            return _refusal(HTTPStatus.INTERNAL_SERVER_ERROR)

    async def _metrics(self, accept: str) -> _Response:
        from scopekeeper.metrics import exposition

        facts = await self._fresh_facts()
        form, content_type = exposition.negotiate(accept)
        body = await in_thread(exposition.write, [facts], form, self._health())
        return _Response(HTTPStatus.OK, content_type, body)

    async def _fresh_facts(self) -> Facts:
        async with self._reading:
            if self._facts is None or time.monotonic() - self._read_at > _FRESH:
                self._facts = await in_thread(self._read)
                self._read_at = time.monotonic()
            return self._facts


def _refusal(status: HTTPStatus) -> _Response:
    return _Response(status, _PLAIN, f"{status.phrase}: GET {_PATH}\n".encode())


def _import() -> None:
    """Import what writes metrics before there is a client: it takes 0.1 s."""
    from scopekeeper.metrics import exposition  # noqa: F401
