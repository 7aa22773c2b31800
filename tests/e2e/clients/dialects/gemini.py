"""Gemini's generateContent, as Gemini CLI asks for it."""

import json
from collections.abc import Iterable
from typing import Any

from .reply import Event, Reply, unique

USAGE = {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15}
_NEXT = json.dumps({"reasoning": "the turn is over", "next_speaker": "user"})
"""For a client that asks who is to speak next."""


class Generate:
    """POST /v1beta/models/MODEL:generateContent, or :streamGenerateContent."""

    def speaks(self, path: str) -> bool:
        """Return True for both."""
        return path.lower().endswith("generatecontent")

    def streams(self, path: str, _body: dict[str, Any]) -> bool:
        """Return what the path says."""
        return "stream" in path

    def messages(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """The parts of a content may be text, calls and results of functions."""
        return [flat for content in body.get("contents", []) for flat in _flat(content)]

    def offered(self, body: dict[str, Any]) -> set[str]:
        """Return the names of the functions."""
        tools = body.get("tools") or []
        return {each["name"] for tool in tools for each in tool.get("functionDeclarations", [])}

    def whole(self, body: dict[str, Any], reply: Reply) -> dict[str, Any]:
        """Return one candidate."""
        if reply.is_call:
            arguments = json.loads(reply.arguments)
            part: dict[str, Any] = {"functionCall": {"name": reply.name, "args": arguments}}
        else:
            part = {"text": _NEXT if _wants_json(body) else reply.text}
        content = {"role": "model", "parts": [part]}
        candidate = {"index": 0, "content": content, "finishReason": "STOP"}
        return {"candidates": [candidate], "usageMetadata": USAGE, "responseId": unique("r")}

    def events(self, body: dict[str, Any], reply: Reply) -> Iterable[Event]:
        """Return all of it at once."""
        yield Event(self.whole(body, reply))


def _wants_json(body: dict[str, Any]) -> bool:
    configuration = body.get("generationConfig") or {}
    return bool(configuration.get("responseMimeType") == "application/json")


def _flat(content: dict[str, Any]) -> Iterable[dict[str, Any]]:
    parts = content.get("parts", [])
    if content.get("role") == "model":
        calls = [part for part in parts if "functionCall" in part]
        yield {"role": "assistant", "content": parts, "tool_calls": calls}
        return
    for part in parts:
        if "functionResponse" in part:
            yield {"role": "tool", "content": json.dumps(part["functionResponse"])}
        elif "text" in part:
            yield {"role": "user", "content": part["text"]}
