"""Parses JSON, JSON with comments, and JSON5, with the place of every value. Pure.

Strict: refuses what a dialect does not allow, since the client would refuse it too. Grammars: RFC
8259, and the JSON5 specification 1.0.0.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from scopekeeper.mcp_configs.document import Pair, ParseError, Raw, Value, position


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a file may have beyond JSON."""

    name: str
    comments: bool = False
    trailing_commas: bool = False
    json5: bool = False


JSON = Dialect("JSON")
COMMENTED = Dialect("JSON with comments", comments=True)
JSONC = Dialect("JSONC", comments=True, trailing_commas=True)
JSON5 = Dialect("JSON5", comments=True, trailing_commas=True, json5=True)

_DEEPEST = 200
"""Levels of nesting. Clients' files have ten; each level takes two of Python's 1,000 frames."""

_BLANK = re.compile(r"[ \t\n\r]*")
_BLANK_5 = re.compile("[\t\n\v\f\r \xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff]*")
_LINE_END = re.compile(r"[\n\r]|\Z")
_LINE_END_5 = re.compile("[\n\r\u2028\u2029]|\\Z")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_NUMBER_5 = re.compile(
    r"[+-]?(?:Infinity|NaN|0[xX][0-9a-fA-F]+"
    r"|(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
)
_WORDS = {"true": True, "false": False, "null": None}
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_PLAIN_5 = {'"': re.compile(r'[^"\\\n\r]*'), "'": re.compile(r"[^'\\\n\r]*")}
_ESCAPES = {
    '"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t",
}  # fmt: skip
_ESCAPES_5 = {**_ESCAPES, "'": "'", "v": "\v", "\n": "", "\u2028": "", "\u2029": ""}
_HEX = {"x": re.compile("[0-9a-fA-F]{2}"), "u": re.compile("[0-9a-fA-F]{4}")}
_NAME_CATEGORIES = frozenset(("Lu", "Ll", "Lt", "Lm", "Lo", "Nl"))
_LATER_CATEGORIES = _NAME_CATEGORIES | {"Mn", "Mc", "Nd", "Pc"}


Places = Sequence[tuple[str, ...]] | None
"""Paths of keys, as in Format.places; None for every path."""


def parse(text: str, dialect: Dialect, places: Places = None) -> Value:
    """Return the value of the text; raises ParseError, also for a duplicate key.

    With places, only what these paths lead to has items and members: the rest of a large file is
    only data.
    """
    reader = _Reader(text, dialect)
    reader.skip()
    value = reader.value(0, places)
    reader.skip()
    if reader.at < len(text):
        raise reader.error(f"unexpected text after the end of the {dialect.name}")
    return value


def _below(places: Places, key: str) -> Places:
    """Return the rest of the paths that go through a key."""
    if places is None or () in places:
        return None
    return [path[1:] for path in places if path[0] in (key, "*")]


class _Reader:
    """Parses a text in one pass."""

    def __init__(self, text: str, dialect: Dialect) -> None:
        self.text = text
        self.dialect = dialect
        self.at = 1 if text[:1] == "\ufeff" else 0

    def error(self, message: str, at: int | None = None) -> ParseError:
        ends = "\n\r\u2028\u2029" if self.dialect.json5 else "\n\r"
        return ParseError(message, *position(self.text, self.at if at is None else at, ends))

    def refused(self, what: str, at: int | None = None) -> ParseError:
        return self.error(f"{what}, which {self.dialect.name} does not allow", at)

    def skip(self) -> None:
        """Skip blanks and comments."""
        blank = _BLANK_5 if self.dialect.json5 else _BLANK
        while True:
            self.at = blank.match(self.text, self.at).end()  # type: ignore[union-attr]  # may be ""
            opening = self.text[self.at : self.at + 2]
            if opening not in ("//", "/*"):
                return
            if not self.dialect.comments:
                raise self.refused("a comment")
            if opening == "//":
                line_end = _LINE_END_5 if self.dialect.json5 else _LINE_END
                self.at = line_end.search(self.text, self.at).start()  # type: ignore[union-attr]
            else:
                end = self.text.find("*/", self.at + 2)
                if end < 0:
                    raise self.error("the comment has no end")
                self.at = end + 2

    def value(self, depth: int, places: Places) -> Value:
        if depth > _DEEPEST:
            raise self.error(f"nested deeper than {_DEEPEST} levels")
        char = self.text[self.at : self.at + 1]
        if char == "{":
            return self.object(depth, places)
        if char == "[":
            return self.array(depth, places)
        if char in ('"', "'"):
            start, data = self.at, self.string()
            return Value(start, self.at, data)
        return self.scalar()

    def scalar(self) -> Value:
        start = self.at
        if start == len(self.text):
            raise self.error("the file ends where a value is expected")
        for word, data in _WORDS.items():
            if self.text.startswith(word, start):
                self.at += len(word)
                self.ends_a_word(start)
                return Value(start, self.at, data)
        number = (_NUMBER_5 if self.dialect.json5 else _NUMBER).match(self.text, start)
        if number is not None and number.group():
            self.at = number.end()
            self.ends_a_word(start)
            return Value(start, self.at, Raw(number.group()))
        if _NUMBER_5.match(self.text, start):
            raise self.refused("a number of this form")
        raise self.error(f"{self.text[start]!r} where a value is expected")

    def ends_a_word(self, start: int) -> None:
        char = self.text[self.at : self.at + 1]
        if char and (char in "$_.+-\\" or char.isalnum()):
            if _NUMBER_5.match(self.text, start) and not self.dialect.json5:
                raise self.refused("a number of this form", start)
            raise self.error("neither a number nor true, false or null", start)

    def comma(self, closing: str) -> int:
        """Skip the comma after an item and return its offset; -1 before closing."""
        self.skip()
        char = self.text[self.at : self.at + 1]
        if char == closing:
            return -1
        if char != ",":
            what = repr(char) if char else "the file ends"
            raise self.error(f"{what} where , or {closing} is expected")
        comma = self.at
        self.at += 1
        self.skip()
        if self.text.startswith(closing, self.at) and not self.dialect.trailing_commas:
            raise self.refused(f"a comma before {closing}", comma)
        return comma

    def array(self, depth: int, places: Places) -> Value:
        start = self.at
        self.at += 1
        data: list[object] = []
        items: list[Value] = []
        commas: list[int] = []
        self.skip()
        while not self.text.startswith("]", self.at):
            item = self.value(depth + 1, None if places is None else ())
            data.append(item.data)
            comma = self.comma("]")
            if places is None:
                items.append(item)
                commas.append(comma)
        self.at += 1
        return Value(start, self.at, data, items=tuple(items), commas=tuple(commas))

    def object(self, depth: int, places: Places) -> Value:
        start = self.at
        self.at += 1
        members: list[Pair] = []
        data: dict[str, object] = {}
        self.skip()
        while not self.text.startswith("}", self.at):
            key_start = self.at
            key = self.key()
            key_end = self.at
            if key in data:
                raise self.error(f"duplicate key {key!r}", key_start)
            self.skip()
            if not self.text.startswith(":", self.at):
                raise self.error("no : after the key")
            self.at += 1
            self.skip()
            value = self.value(depth + 1, _below(places, key))
            data[key] = value.data
            comma = self.comma("}")
            if places is None or places:
                members.append(Pair(key_start, key_start, key_end, (key,), value, comma))
        self.at += 1
        return Value(start, self.at, data, members=tuple(members))

    def key(self) -> str:
        char = self.text[self.at : self.at + 1]
        if char in ('"', "'"):
            return self.string()
        start = self.at
        name = self.identifier()
        if name and not self.dialect.json5:
            raise self.refused("a key without quotes", start)
        if not name:
            what = repr(char) if char else "the file ends"
            raise self.error(f"{what} where a key or }} is expected")
        return name

    def identifier(self) -> str:
        """Read an ECMAScript 5.1 identifier name; "" if there is none."""
        name = ""
        while self.at < len(self.text):
            start, char = self.at, self.text[self.at]
            if char == "\\":
                self.at += 1
                if not self.text.startswith("u", self.at):
                    raise self.error("a key without quotes allows no escape but \\u", start)
                self.at += 1
                char = self.hexadecimal("u")
            else:
                self.at += 1
            categories = _LATER_CATEGORIES if name else _NAME_CATEGORIES
            if not (
                char in "$_"
                or unicodedata.category(char) in categories
                or (name and char in "\u200c\u200d")
            ):
                if self.text[start] == "\\":
                    raise self.error("a key without quotes does not allow this character", start)
                self.at = start
                break
            name += char
        return name

    def hexadecimal(self, kind: str) -> str:
        digits = _HEX[kind].match(self.text, self.at)
        if digits is None:
            raise self.error(f"\\{kind} without its {2 if kind == 'x' else 4} digits")
        self.at = digits.end()
        return chr(int(digits.group(), 16))

    def string(self) -> str:
        start, quote = self.at, self.text[self.at]
        if quote == "'" and not self.dialect.json5:
            raise self.refused("a string in single quotes")
        plain = _PLAIN_5[quote] if self.dialect.json5 else _PLAIN
        self.at += 1
        pieces = []
        while True:
            piece = plain.match(self.text, self.at)
            pieces.append(piece.group())  # type: ignore[union-attr]  # may be ""
            self.at = piece.end()  # type: ignore[union-attr]
            char = self.text[self.at : self.at + 1]
            if char == quote:
                self.at += 1
                joined = "".join(pieces)
                if len(pieces) == 1:
                    return joined
                # two \\u of a surrogate pair are one character
                return joined.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
            if char == "\\":
                pieces.append(self.escape())
            elif not char:
                raise self.error("the string has no end", start)
            elif char in "\n\r":
                raise self.error("a line ends inside a string")
            else:
                raise self.refused(f"the character {char!r} in a string")

    def escape(self) -> str:
        start = self.at
        char = self.text[start + 1 : start + 2]
        self.at += 2
        if char == "u" or (char == "x" and self.dialect.json5):
            return self.hexadecimal(char)
        escapes = _ESCAPES_5 if self.dialect.json5 else _ESCAPES
        if char in escapes:
            return escapes[char]
        if self.dialect.json5 and char == "\r":
            self.at += self.text.startswith("\n", self.at)
            return ""
        following = self.text[self.at : self.at + 1]
        if self.dialect.json5 and char == "0" and not (following.isascii() and following.isdigit()):
            return "\0"
        if self.dialect.json5 and char and not (char.isascii() and char.isdigit()):
            return char
        if not char:
            raise self.error("the string has no end", start)
        raise self.refused(f"the escape \\{char}", start)
