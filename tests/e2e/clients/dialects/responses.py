"""OpenAI's responses, as Codex asks for them."""

import json
from collections.abc import Iterable
from typing import Any

from .reply import Event, Reply, unique

USAGE = {
    "input_tokens": 10,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 15,
}
IN_NAMESPACE = "/"
"""Between the namespace of a tool and its name, in a script."""


class Responses:
    """POST /v1/responses."""

    def speaks(self, path: str) -> bool:
        """Return True for a response itself."""
        return path.endswith("/responses")

    def streams(self, _path: str, body: dict[str, Any]) -> bool:
        """Return what the request says."""
        return bool(body.get("stream"))

    def messages(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """A call and its result are items of their own here."""
        return [flat for item in body.get("input", []) for flat in _flat(item)]

    def offered(self, body: dict[str, Any]) -> set[str]:
        """Return the names of the tools, those of a namespace as ``namespace/name``."""
        names = set()
        for tool in body.get("tools", []):
            if tool.get("type") == "namespace":
                names |= {tool["name"] + IN_NAMESPACE + each["name"] for each in tool["tools"]}
            elif "name" in tool:
                names.add(tool["name"])
        return names

    def whole(self, body: dict[str, Any], reply: Reply) -> dict[str, Any]:
        """Return a response that is complete."""
        return _response(body, "completed", [_item(reply)])

    def events(self, body: dict[str, Any], reply: Reply) -> Iterable[Event]:
        """Begin a response, add its one item, and complete both."""
        item = _item(reply)
        begun = {"type": "response.created", "response": _response(body, "in_progress", [])}
        added = {"type": "response.output_item.added", "output_index": 0, "item": item}
        done = {"type": "response.output_item.done", "output_index": 0, "item": item}
        ended = {"type": "response.completed", "response": _response(body, "completed", [item])}
        for data in (begun, added, done, ended):
            yield Event(data, str(data["type"]))


def _flat(item: dict[str, Any]) -> Iterable[dict[str, Any]]:
    kind = item.get("type", "message")
    if kind == "message":
        yield {"role": item.get("role"), "content": item.get("content")}
    elif kind in ("function_call", "custom_tool_call"):
        yield {"role": "assistant", "content": None, "tool_calls": [item]}
    elif kind.endswith("_output"):
        yield {"role": "tool", "content": json.dumps(item.get("output"))}


def _item(reply: Reply) -> dict[str, Any]:
    common = {"id": unique("item"), "status": "completed"}
    if not reply.is_call:
        content = [{"type": "output_text", "text": reply.text, "annotations": []}]
        return common | {"type": "message", "role": "assistant", "content": content}
    namespace, _, name = reply.name.rpartition(IN_NAMESPACE)
    call = {"type": "function_call", "call_id": unique("call"), "name": name}
    call |= {"arguments": reply.arguments}
    return common | call | ({"namespace": namespace} if namespace else {})


def _response(body: dict[str, Any], status: str, output: list[Any]) -> dict[str, Any]:
    return {
        "id": unique("resp"),
        "object": "response",
        "created_at": 0,
        "status": status,
        "model": body.get("model"),
        "output": output,
        "usage": USAGE,
    }
