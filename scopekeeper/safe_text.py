"""Make text safe to print. Pure, and light enough for the hot path: no imports.

Names, command lines and files can contain characters that control a terminal: escape sequences,
carriage returns, marks that reverse the writing direction. All output passes through here, except
that of ``attach`` and ``logs --raw``, which is passed on byte for byte.
"""

_SPACES = "".join(map(chr, (0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000)))
_JOINERS = "\u200c\u200d"
"""Parts of emoji and of Indic and Persian words."""


def safe(text: str) -> str:
    """Return text as one line in which escapes replace the characters that control a terminal.

    The escapes are Python's, for what str.isprintable() refuses: control and format characters,
    line breaks, lone surrogates. Spaces, joiners and private use characters stay; fonts have
    glyphs for these.
    """
    if text.isprintable():
        return text
    return "".join(char if _is_harmless(char) else _escaped(char) for char in _decoded(text))


def _decoded(text: str) -> str:
    """Return text with each byte that is not UTF-8 as an escape."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # it has a surrogate that stands for no byte
        return text


def safe_lines(text: str) -> str:
    """Return text with each of its lines made safe; tabs and line ends (LF and CR LF) stay."""
    if text.isprintable():
        return text
    *lines, rest = text.split("\n")
    whole = [_safe_line(line.removesuffix("\r")) + "\r" * line.endswith("\r") for line in lines]
    return "\n".join([*whole, _safe_line(rest)])


def _safe_line(line: str) -> str:
    return "\t".join(map(safe, line.split("\t")))


def _is_harmless(char: str) -> bool:
    return char.isprintable() or char in _SPACES or char in _JOINERS or "\ue000" <= char <= "\uf8ff"


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "backslashreplace").decode()
