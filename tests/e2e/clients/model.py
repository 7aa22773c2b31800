"""The model of every client: a server on loopback that speaks the APIs that the clients speak.

It does what the user's message says, as ``tests.e2e.provider`` does. ``call: hold {"name": "N"}``
is answered only after ``release("N")``: until then a turn of the client runs.
"""

import json
import threading
from collections.abc import Iterable
from typing import Any, Protocol

from tests.e2e import provider
from tests.e2e.provider import Request, decide

from .dialects import anthropic, chat_completions, gemini, responses
from .dialects.reply import Event, Reply

HOLD = "hold"
NO_TOOL = "there is no tool called"


class Dialect(Protocol):
    """How one API writes messages, tools and answers."""

    def speaks(self, path: str) -> bool:
        """Return True if requests to this path are in this dialect."""

    def streams(self, path: str, body: dict[str, Any]) -> bool:
        """Return True if the answer is to be streamed."""

    def messages(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the messages as chat completions have them."""

    def offered(self, body: dict[str, Any]) -> set[str]:
        """Return the names of the tools that may be called."""

    def whole(self, body: dict[str, Any], reply: Reply) -> dict[str, Any]:
        """Return the answer to a request that is not streamed."""

    def events(self, body: dict[str, Any], reply: Reply) -> Iterable[Event]:
        """Return the events of a streamed answer."""


DIALECTS: tuple[Dialect, ...] = (
    anthropic.Messages(),
    chat_completions.ChatCompletions(),
    responses.Responses(),
    gemini.Generate(),
)


class Handler(provider.Handler):
    """One connection of a client."""

    server: "Model"

    def do_HEAD(self) -> None:  # noqa: N802
        """Answer a client that only asks whether somebody is there."""
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def do_POST(self) -> None:  # noqa: N802
        """Answer in the dialect of the path; anything else that a client posts is acknowledged."""
        path, body = self.path.partition("?")[0], self._body()
        dialect = next((each for each in DIALECTS if each.speaks(path)), None)
        if dialect is None:
            self._json({"input_tokens": 10, "totalTokens": 10})
            return
        reply = self.server.reply_to(dialect.messages(body), dialect.offered(body))
        if not dialect.streams(path, body):
            self._json(dialect.whole(body, reply))
            return
        self._begin_stream()
        for event in dialect.events(body, reply):
            name = f"event: {event.name}\n" if event.name else ""
            data = event.data if isinstance(event.data, str) else json.dumps(event.data)
            self.wfile.write(f"{name}data: {data}\n\n".encode())

    def _body(self) -> dict[str, Any]:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return super()._body()
        data = b""
        while size := int(self.rfile.readline().strip() or b"0", 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        body: dict[str, Any] = json.loads(data or b"{}")
        return body


class Model(provider.Provider):
    """The model, in a thread of this process."""

    handler = Handler

    def __init__(self) -> None:
        self._held: set[str] = set()
        self._released: set[str] = set()
        self._refused: list[str] = []
        self._change = threading.Condition()
        self._over = False
        super().__init__()

    @property
    def origin(self) -> str:
        """The address without a path."""
        return f"http://127.0.0.1:{self.server_port}"

    def reply_to(self, messages: list[dict[str, Any]], offered: set[str]) -> Reply:
        """Return what to answer, once it may be answered."""
        kind, rest, request = decide(messages)
        self._note(request)
        name, _, arguments = rest.partition(" ")
        if kind == "call" and name == HOLD and offered:
            self._wait(json.loads(arguments)["name"])
            return Reply(text="released")
        if kind == "call" and name in offered:
            return Reply(name=name, arguments=arguments or "{}")
        if kind == "say":
            return Reply(text=rest)
        if offered:
            with self.lock:
                self._refused.append(request.user)
        # a client asks for a title, too, and offers no tools for that
        return Reply(text=f"{NO_TOOL} {name}" if offered else "OK")

    def holds(self, name: str) -> bool:
        """Return True if a client waits for this."""
        with self._change:
            return name in self._held

    def release(self, name: str) -> None:
        """Answer what waits for this."""
        with self._change:
            self._released.add(name)
            self._change.notify_all()

    def refused(self, words: str) -> bool:
        """Return True if a script with these words calls a tool that the client did not offer."""
        with self.lock:
            return any(words in each for each in self._refused)

    def results(self, words: str) -> list[str]:
        """Return what the tools have answered in the turn whose script has these words."""
        return max((list(each.results) for each in self.asked(words)), key=len, default=[])

    def close(self) -> None:
        """End it, with all that waits."""
        with self._change:
            self._over = True
            self._change.notify_all()
        super().close()

    def _note(self, request: Request) -> None:
        with self.lock:
            self.requests.append(request)

    def _wait(self, name: str) -> None:
        with self._change:
            self._held.add(name)
            self._change.wait_for(lambda: self._over or name in self._released)
