"""Spells words in the language of a configuration. Pure."""

import re
from collections.abc import Callable

from scopekeeper.mcp_configs.client_format import Format
from scopekeeper.mcp_configs.yaml import YamlDialect
from scopekeeper.scope.names import MEMBER_MAX

_PLAIN = re.compile(r"(?:--?)?[A-Za-z/][A-Za-z0-9_./@+=-]*")
_RESERVED = frozenset(("true", "false", "yes", "no", "on", "off", "y", "n", "null"))
"""Words that some reader of YAML takes for something else than a string."""


def member_name(server: str) -> str:
    """Return the server's name as a member's name, without characters that a client may expand."""
    kept = "".join(char if char.isprintable() and char != "$" else "_" for char in server)
    return (f"_{kept[1:]}" if kept[:1] == "~" else kept)[:MEMBER_MAX] or "_"


def quoter(kind: Format, mark: str) -> Callable[[str], str]:
    """Return a function that quotes a string in the file's language, if possible with mark.

    In YAML, another mark than a quote allows words without quotes.
    """

    def quote(word: str) -> str:
        is_yaml = isinstance(kind.dialect, YamlDialect)
        is_plain = _PLAIN.fullmatch(word) and word.lower() not in _RESERVED
        if is_yaml and is_plain and mark not in "\"'":
            return word
        own_escapes = kind.dialect is None or is_yaml
        if own_escapes and mark == "'" and "'" not in word and word.isprintable():
            return f"'{word}'"
        around = '"' if own_escapes else mark
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
    if kind.dialect is None or isinstance(kind.dialect, YamlDialect):
        return f"\\U{code:08x}"
    code -= 0x10000
    return f"\\u{0xD800 | code >> 10:04x}\\u{0xDC00 | code & 0x3FF:04x}"
