"""Spells words in the language of a configuration. Pure."""

from collections.abc import Callable

from scopekeeper.mcp_clients.formats import Format
from scopekeeper.scope.names import MEMBER_MAX


def member_name(server: str) -> str:
    """Return the server's name as a member's name, without characters that a client may expand."""
    kept = "".join(char if char.isprintable() and char != "$" else "_" for char in server)
    return (f"_{kept[1:]}" if kept[:1] == "~" else kept)[:MEMBER_MAX] or "_"


def quoter(kind: Format, mark: str) -> Callable[[str], str]:
    """Return a function that quotes a string in the file's language, if possible with mark."""

    def quote(word: str) -> str:
        if kind.dialect is None and mark == "'" and "'" not in word and word.isprintable():
            return f"'{word}'"
        around = mark if kind.dialect is not None else '"'
        escaped = "".join(
            f"\\{char}" if char in ("\\", around)
            else char if char.isprintable()
            else f"\\u{ord(char):04x}" if ord(char) < 0x10000
            else _escaped(ord(char), kind)
            for char in word
        )  # fmt: skip
        return f"{around}{escaped}{around}"

    return quote


def _escaped(code: int, kind: Format) -> str:
    """Escape a character above U+FFFF; JSON needs a surrogate pair."""
    if kind.dialect is None:
        return f"\\U{code:08x}"
    code -= 0x10000
    return f"\\u{0xD800 | code >> 10:04x}\\u{0xDC00 | code & 0x3FF:04x}"
