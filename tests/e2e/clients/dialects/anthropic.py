"""Anthropic's messages, as Claude Code asks for them."""

import json
from collections.abc import Iterable
from typing import Any

from tests.e2e.provider import text_of

from .reply import Event, Reply, unique

USAGE = {"input_tokens": 10, "output_tokens": 5}


class Messages:
    """POST /v1/messages."""

    def speaks(self, path: str) -> bool:
        """Return True for the messages themselves, not for what counts their tokens."""
        return path.endswith("/messages")

    def streams(self, _path: str, body: dict[str, Any]) -> bool:
        """Return what the request says."""
        return bool(body.get("stream"))

    def messages(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """Results of tools are parts of a user's message here, and messages of their own there."""
        return [flat for each in body.get("messages", []) for flat in _flat(each)]

    def offered(self, body: dict[str, Any]) -> set[str]:
        """Return the names of the tools."""
        return {tool["name"] for tool in body.get("tools", [])}

    def whole(self, body: dict[str, Any], reply: Reply) -> dict[str, Any]:
        """Return a message."""
        return _message(body, [_block(reply)], _stop(reply))

    def events(self, body: dict[str, Any], reply: Reply) -> Iterable[Event]:
        """Begin a message with one block, fill the block, and end both."""
        block = _block(reply)
        if reply.is_call:
            empty = block | {"input": {}}
            delta = {"type": "input_json_delta", "partial_json": reply.arguments}
        else:
            empty = block | {"text": ""}
            delta = {"type": "text_delta", "text": reply.text}
        stop = {"stop_reason": _stop(reply), "stop_sequence": None}
        for data in (
            {"type": "message_start", "message": _message(body, [], None)},
            {"type": "content_block_start", "index": 0, "content_block": empty},
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": stop, "usage": USAGE},
            {"type": "message_stop"},
        ):
            yield Event(data, str(data["type"]))


def _flat(message: dict[str, Any]) -> Iterable[dict[str, Any]]:
    content = message["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if message["role"] == "assistant":
        calls = [part for part in parts if part.get("type") == "tool_use"]
        yield {"role": "assistant", "content": text_of(content), "tool_calls": calls}
        return
    for part in parts:
        match part.get("type"):
            case "tool_result":
                yield {"role": "tool", "content": text_of(part.get("content"))}
            case "text":
                yield {"role": "user", "content": part["text"]}


def _block(reply: Reply) -> dict[str, Any]:
    if not reply.is_call:
        return {"type": "text", "text": reply.text}
    arguments = json.loads(reply.arguments)
    return {"type": "tool_use", "id": unique("toolu"), "name": reply.name, "input": arguments}


def _stop(reply: Reply) -> str:
    return "tool_use" if reply.is_call else "end_turn"


def _message(
    body: dict[str, Any], content: list[dict[str, Any]], stop: str | None
) -> dict[str, Any]:
    return {
        "id": unique("msg"),
        "type": "message",
        "role": "assistant",
        "model": body.get("model"),
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": USAGE,
    }
