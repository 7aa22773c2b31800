"""OpenAI's chat completions, as GitHub Copilot CLI and hermes-agent ask for them."""

import time
from collections.abc import Iterable
from typing import Any

from .reply import Event, Reply, unique

USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
OVER = Event("[DONE]")
"""The last line of a stream is no JSON."""


class ChatCompletions:
    """POST /v1/chat/completions."""

    def speaks(self, path: str) -> bool:
        """Return True for a completion."""
        return path.endswith("/chat/completions")

    def streams(self, _path: str, body: dict[str, Any]) -> bool:
        """Return what the request says."""
        return bool(body.get("stream"))

    def messages(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """Return them as they are."""
        return list(body.get("messages", []))

    def offered(self, body: dict[str, Any]) -> set[str]:
        """Return the names of the functions."""
        return {tool["function"]["name"] for tool in body.get("tools") or [] if "function" in tool}

    def whole(self, body: dict[str, Any], reply: Reply) -> dict[str, Any]:
        """Return a completion with one choice."""
        choice = {"index": 0, "message": _message(reply), "finish_reason": _why(reply)}
        return _completion(body, "chat.completion") | {"choices": [choice], "usage": USAGE}

    def events(self, body: dict[str, Any], reply: Reply) -> Iterable[Event]:
        """Send the whole message as one piece, then why it ends."""
        chunk = _completion(body, "chat.completion.chunk")
        piece = {"index": 0, "delta": _message(reply), "finish_reason": None}
        end = {"index": 0, "delta": {}, "finish_reason": _why(reply)}
        yield Event(chunk | {"choices": [piece]})
        yield Event(chunk | {"choices": [end], "usage": USAGE})
        yield OVER


def _message(reply: Reply) -> dict[str, Any]:
    if not reply.is_call:
        return {"role": "assistant", "content": reply.text}
    call = {
        "index": 0,
        "id": unique("call"),
        "type": "function",
        "function": {"name": reply.name, "arguments": reply.arguments},
    }
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def _why(reply: Reply) -> str:
    return "tool_calls" if reply.is_call else "stop"


def _completion(body: dict[str, Any], kind: str) -> dict[str, Any]:
    return {
        "id": unique("chatcmpl"),
        "object": kind,
        "created": int(time.time()),
        "model": body.get("model"),
    }
