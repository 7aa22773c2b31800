"""OpenAI's chat completions, as OpenCode asks for them."""

from collections.abc import Iterable
from typing import Any

from .reply import Event, Reply, unique

USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


class Completions:
    """POST /v1/chat/completions."""

    def speaks(self, path: str) -> bool:
        """Return True for completions."""
        return path.endswith("/chat/completions")

    def streams(self, _path: str, body: dict[str, Any]) -> bool:
        """Return what the request says."""
        return bool(body.get("stream"))

    def messages(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """Return them as they are."""
        messages: list[dict[str, Any]] = body.get("messages", [])
        return messages

    def offered(self, body: dict[str, Any]) -> set[str]:
        """Return the names of the functions."""
        return {tool.get("function", {}).get("name") for tool in body.get("tools") or []}

    def whole(self, body: dict[str, Any], reply: Reply) -> dict[str, Any]:
        """Return a completion with one choice."""
        choice = {"index": 0, "message": _message(reply), "finish_reason": _why(reply)}
        return _base(body) | {"object": "chat.completion", "choices": [choice], "usage": USAGE}

    def events(self, body: dict[str, Any], reply: Reply) -> Iterable[Event]:
        """Return one piece with all of it, and one that ends it."""
        base = _base(body) | {"object": "chat.completion.chunk"}
        first = {"index": 0, "delta": _message(reply), "finish_reason": None}
        last = {"index": 0, "delta": {}, "finish_reason": _why(reply)}
        yield Event(base | {"choices": [first]})
        yield Event(base | {"choices": [last], "usage": USAGE})


def _base(body: dict[str, Any]) -> dict[str, Any]:
    return {"id": unique("chat"), "created": 0, "model": body.get("model")}


def _why(reply: Reply) -> str:
    return "tool_calls" if reply.is_call else "stop"


def _message(reply: Reply) -> dict[str, Any]:
    if not reply.is_call:
        return {"role": "assistant", "content": reply.text}
    function = {"name": reply.name, "arguments": reply.arguments}
    call = {"index": 0, "id": unique("call"), "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}
