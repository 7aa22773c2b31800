"""Edits that remove a key from an object, or remove and replace items of an array. Pure."""

from collections.abc import Sequence

from scopekeeper.mcp_configs.document import Edit, Pair, Value


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


def without_values(text: str, array: Value) -> str:
    """Return the blanks and comments of an array."""
    at, pieces = array.start + 1, []
    for item, comma in zip(array.items, array.commas, strict=True):
        pieces.append(text[at : item.start])
        at = item.end
        if comma >= 0:
            pieces.append(text[at:comma])
            at = comma + 1
    return "".join([*pieces, text[at : array.end - 1]])


def remove_items(text: str, array: Value, last: int, end: int) -> list[Edit]:
    """Remove the items up to index last, and the commas and blanks up to end, but no comment."""
    edits = []
    for at, (item, comma) in enumerate(zip(array.items, array.commas, strict=True)):
        if at > last:
            break
        following = array.items[at + 1].start if at < last else end
        if text[item.end : following].replace(",", "", 1).strip():
            edits.append(Edit(item.start, item.end, ""))
            edits += remove_comma(comma)
        else:
            edits.append(Edit(item.start, following, ""))
    return edits


def replace_items(
    array: Value, number: int, words: Sequence[str], between: str, text: str
) -> list[Edit]:
    """Replace the first items of an array by words; a comment among them stays, after the words."""
    items, commas = array.items, array.commas
    start, end = items[0].start, items[number].start
    kept = ""
    at = start
    for item, comma in zip(items[:number], commas, strict=False):
        kept += text[at : item.start] + text[item.end : comma]
        at = comma + 1
    if not (kept + text[at:end]).strip():
        return [Edit(start, end, "".join(word + between for word in words))]
    edits = [Edit(start, items[0].end, between.join(words))]
    for item, comma in zip(items[1:number], commas[1:number], strict=True):
        edits += [Edit(item.start, item.end, ""), *remove_comma(comma)]
    return edits
