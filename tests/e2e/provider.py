"""A model provider on loopback that does what the user's message tells it to.

OpenAI's chat completions, streamed or not. The last message of the user that has lines such as

    call: NAME {"its": "arguments"}
    say: TEXT

is done line by line, one a request: each ``call`` is one call of a tool, ``say`` the final text.
Without such lines the answer is what a run wants to hear that has nothing to say.
"""

import json
import re
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "scripted-1"
# the gateway may put a time in brackets before the first line
STEP = re.compile(r"(?m)^(?:\[[^\]\n]*\] ?)?(call|say): (.*)$")
QUIET = {
    "Agent-to-agent reply step:": "REPLY_SKIP",
    "Agent-to-agent announce step": "ANNOUNCE_SKIP",
}
"""What to say where the prompt has these words, so that two agents do not go on talking."""


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked: the user's last words, and what the tools have answered in this turn."""

    user: str
    results: tuple[str, ...]
    answer: str


def text_of(content: Any) -> str:
    """Return the text of a message's content, which is a string or a list of parts."""
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", "") for part in content or [] if isinstance(part, dict))


def open_turn(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the messages after the last answer that called no tool."""
    ends = [
        number
        for number, message in enumerate(messages)
        if message.get("role") == "assistant" and not message.get("tool_calls")
    ]
    return messages[ends[-1] + 1 :] if ends else messages


def decide(messages: list[dict[str, Any]]) -> tuple[str, str, Request]:
    """Return the kind of the answer (call or say), what it says, and what was asked."""
    turn = open_turn(messages)
    users = [text_of(each.get("content")) for each in turn if each.get("role") == "user"]
    scripted = [words for words in users if STEP.search(words)]
    words = scripted[-1] if scripted else (users[-1] if users else "")
    results = tuple(text_of(each.get("content")) for each in turn if each.get("role") == "tool")
    steps = STEP.findall(words)
    if len(results) < len(steps):
        kind, rest = steps[len(results)]
    else:
        prompt = "\n".join(text_of(each.get("content")) for each in (*messages[:1], *turn))
        kind, rest = "say", next((QUIET[words] for words in QUIET if words in prompt), "OK")
    return kind, rest, Request(words, results, f"{kind}: {rest}")


def answer(body: dict[str, Any]) -> tuple[dict[str, Any], str, Request]:
    """Return the message to send, why it ends, and what was asked."""
    kind, rest, request = decide(body.get("messages", []))
    if kind == "say":
        return {"role": "assistant", "content": rest}, "stop", request
    name, _, arguments = rest.partition(" ")
    offered = [tool.get("function", {}).get("name") for tool in body.get("tools", [])]
    if name not in offered and "tool_call" in offered:
        # OpenClaw 2026.9 has the tools of MCP servers behind one that calls them
        arguments = json.dumps({"id": name, "args": json.loads(arguments or "{}")})
        name = "tool_call"
    call = {
        "index": 0,
        "id": f"call_{time.monotonic_ns()}",
        "type": "function",
        "function": {"name": name, "arguments": arguments or "{}"},
    }
    return {"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls", request


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: "Provider"

    def log_message(self, format: str, *_args: Any) -> None:  # noqa: A002
        """Say nothing: the provider keeps what it was asked."""

    def do_GET(self) -> None:
        """List the one model."""
        self._json({"object": "list", "data": [{"id": MODEL, "object": "model"}]})

    def do_POST(self) -> None:
        """Answer a completion."""
        body = self._body()
        message, why, request = answer(body)
        with self.server.lock:
            self.server.requests.append(request)
        base = {"id": f"chat-{time.monotonic_ns()}", "created": int(time.time()), "model": MODEL}
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        if not body.get("stream"):
            choice = {"index": 0, "message": message, "finish_reason": why}
            self._json(base | {"object": "chat.completion", "choices": [choice], "usage": usage})
            return
        base |= {"object": "chat.completion.chunk"}
        self._begin_stream()
        first = {"index": 0, "delta": message, "finish_reason": None}
        last = {"index": 0, "delta": {}, "finish_reason": why}
        for chunk in (base | {"choices": [first]}, base | {"choices": [last], "usage": usage}):
            self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        self.wfile.write(b"data: [DONE]\n\n")

    def _body(self) -> dict[str, Any]:
        size = int(self.headers.get("content-length", 0))
        body: dict[str, Any] = json.loads(self.rfile.read(size) or b"{}")
        return body

    def _begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True

    def _json(self, value: dict[str, Any]) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class Provider(ThreadingHTTPServer):
    """The provider, in a thread of this process."""

    daemon_threads = True
    handler: type[Handler] = Handler

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), self.handler)
        self.lock = threading.Lock()
        self.requests: list[Request] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """What a configuration names."""
        return f"http://127.0.0.1:{self.server_port}/v1"

    def asked(self, words: str) -> list[Request]:
        """Return the requests of runs whose script or prompt has these words."""
        with self.lock:
            return [each for each in self.requests if words in each.user]

    def close(self) -> None:
        """End it."""
        self.shutdown()
        self.server_close()
