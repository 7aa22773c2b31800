"""The short form of long names, for sentences in the journal. Pure, and light: no imports.

It is that of the tables (``cli.table``): UUIDs by their first 8 digits, then the middle is cut out.
There, a text's width on a terminal counts; here, its characters.
"""

MOST = 40
"""Characters of a name that stays as it is."""
_MARK = "…"
_DASHES = (8, 13, 18, 23)
_UUID = 36
_HEX = frozenset("0123456789abcdefABCDEF")
_UNIT_DASH = "\\x2d"


def short(name: str) -> str:
    """Return a name in at most MOST characters; of a unit's name also an escaped UUID is short."""
    if len(name) <= MOST:
        return name
    if _UNIT_DASH in name:
        name = name.replace(_UNIT_DASH, "-")
    name = _with_short_ids(name)
    return name if len(name) <= MOST else _cut(name)


def shortened(text: str, names: "tuple[str, ...] | list[str]") -> str:
    """Return a text in which each of these names has its short form."""
    for name in sorted({each for each in names if len(each) > MOST}, key=len, reverse=True):
        text = text.replace(name, short(name))
    return text


def _with_short_ids(text: str) -> str:
    at = text.find("-")
    while at >= 0:
        begin = at - _DASHES[0]
        if begin >= 0 and _is_uuid(text, begin):
            text = text[:at] + text[begin + _UUID :]
            at -= 1
        at = text.find("-", at + 1)
    return text


def _is_uuid(text: str, begin: int) -> bool:
    """Return whether a UUID stands here, as a word of its own."""
    word = text[begin : begin + _UUID]
    return (
        len(word) == _UUID
        and all(char == "-" if at in _DASHES else char in _HEX for at, char in enumerate(word))
        and not (begin and _is_of_word(text[begin - 1]))
        and not _is_of_word(text[begin + _UUID : begin + _UUID + 1])
    )


def _is_of_word(char: str) -> bool:
    return char.isalnum() or char == "_"


def _cut(text: str) -> str:
    """Cut the middle out of a text, at colons if that loses little."""
    room = MOST - 1
    tail = text[-(room // 2) :]
    whole = text.rfind(":")
    if whole > 0 and room // 4 <= len(text) - whole <= room * 2 // 3:
        tail = text[whole:]
    head = text[: room - len(tail)]
    part = head.rpartition(":")[0] + ":"
    if tail.startswith(":") and ":" in head and len(part) * 4 >= len(head) * 3:
        head = part
    return head + _MARK + tail
