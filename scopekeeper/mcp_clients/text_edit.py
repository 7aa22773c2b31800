"""Edits that remove a key with its value from an object. Pure."""

from collections.abc import Sequence

from scopekeeper.mcp_clients.document import Edit, Pair


def remove_member(text: str, siblings: Sequence[Pair], member: Pair) -> list[Edit]:
    """Remove a member of an object and its comma, but no comment."""
    number = siblings.index(member)
    before = siblings[number - 1] if number else None
    comma = before.comma if before else member.comma
    start = before.value.end if before else member.start
    end = member.value.end
    stop = end if before else siblings[1].start if len(siblings) > 1 else comma + 1 or end
    outside = text[start : member.start] + text[end:stop]
    if not outside.replace(",", "", 1).strip():
        return [Edit(start, stop, "")]
    return [*remove_comma(comma), Edit(member.start, end, "")]


def remove_comma(at: int) -> list[Edit]:
    """Remove the comma at an offset; -1 means no comma."""
    return [Edit(at, at + 1, "")] if at >= 0 else []
