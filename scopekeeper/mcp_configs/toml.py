"""Parses TOML with the place of every value. Pure.

tomllib validates a text and returns its values, but not their places. This finds the places in a
text that tomllib has accepted, so it checks nothing itself.
"""

import re
import tomllib
from dataclasses import dataclass

from scopekeeper.mcp_configs.document import Pair, ParseError, Raw, Value, position

_SPACE = re.compile(r"[ \t]*")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\r\n]*")
_QUOTED = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*"{3,5}'
    r"|'''(?:[^']|'(?!''))*'{3,5}"
    r'|"(?:[^"\\]|\\.)*"'
    r"|'[^']*'",
    re.DOTALL,
)
_AT_LINE = re.compile(r" \(at line (\d+), column (\d+)\)\Z")
_AT_END = " (at end of document)"


@dataclass(frozen=True, slots=True)
class TomlEntry:
    """A key with its value, and its table."""

    path: tuple[str, ...]
    """The path of its table; all tables of one array share a path."""
    member: Pair
    container: Value | None
    """Its inline table; None if it is a line of its own."""

    @property
    def full(self) -> tuple[str, ...]:
        """The whole path, the key included."""
        return *self.path, *self.member.key


@dataclass(frozen=True, slots=True)
class TomlHeader:
    """The line that begins a table."""

    start: int
    path: tuple[str, ...]
    is_array: bool
    """Whether the table is an item of an array: ``[[path]]``."""


def headers(text: str) -> list[TomlHeader]:
    """Return the headers of a text that ``parse`` has accepted, in order."""
    scanner = _Scanner(text, int(text.startswith("\ufeff")))
    scanner.entries()
    return scanner.headers


def parse(text: str) -> tuple[dict[str, object], list[TomlEntry]]:
    """Return the values of a text, and every key with its place, also in inline tables.

    Raises ParseError.
    """
    mark = text.startswith("\ufeff")  # TOML 1.1 skips a byte order mark
    try:
        data = tomllib.loads(text[mark:], parse_float=Raw)
    except tomllib.TOMLDecodeError as error:
        message = str(error)[:1].lower() + str(error)[1:]
        found = _AT_LINE.search(message)
        if found:
            line, column = int(found[1]), int(found[2])
            raise ParseError(message[: found.start()], line, column) from None
        line, column = position(text, len(text))
        raise ParseError(f"{message.removesuffix(_AT_END)} where the file ends",
                         line, column) from None  # fmt: skip
    except RecursionError:
        raise ParseError("nested too deeply", 1, 1) from None
    return data, _Scanner(text, int(mark)).entries()


class _Scanner:
    """Finds the places in one pass."""

    def __init__(self, text: str, at: int) -> None:
        self.text = text
        self.at = at
        self.found: list[TomlEntry] = []
        self.headers: list[TomlHeader] = []

    def entries(self) -> list[TomlEntry]:
        table: tuple[str, ...] = ()
        self.past(_BLANK)
        while self.at < len(self.text):
            if self.text.startswith("[", self.at):
                start, is_array = self.at, self.text.startswith("[[", self.at)
                self.at += 1 + is_array
                self.past(_SPACE)
                table = self.key()[0]
                self.headers.append(TomlHeader(start, table, is_array))
                self.at += 1 + is_array
            else:
                self.add(table, self.member(), None)
            self.past(_BLANK)
        return self.found

    def past(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        if found is None:
            raise AssertionError(f"not TOML at {self.at}")  # tomllib has accepted it
        self.at = found.end()
        return found.group()

    def key(self) -> tuple[tuple[str, ...], int, int]:
        """Read a key and the blanks after it; return its parts, the last one's start, its end."""
        parts = []
        while True:
            start = self.at
            if self.text[start] in "\"'":
                parts.append(str(tomllib.loads(f"x={self.past(_QUOTED)}")["x"]))
            else:
                parts.append(self.past(_BARE))
            end = self.at
            self.past(_SPACE)
            if not self.text.startswith(".", self.at):
                return tuple(parts), start, end
            self.at += 1
            self.past(_SPACE)

    def member(self) -> Pair:
        start = self.at
        parts, name_start, end = self.key()
        self.at += 1  # =
        self.past(_SPACE)
        return Pair(start, name_start, end, parts, self.value())

    def value(self) -> Value:
        start = self.at
        char = self.text[start]
        if char in "\"'":
            raw = self.past(_QUOTED)
            return Value(start, self.at, tomllib.loads(f"x={raw}")["x"])
        if char == "[":
            return self.array()
        if char == "{":
            return self.inline_table()
        raw = self.past(_SCALAR).rstrip()
        self.at = start + len(raw)
        return Value(start, self.at, Raw(raw))

    def array(self) -> Value:
        start = self.at
        self.at += 1
        items: list[Value] = []
        commas: list[int] = []
        self.past(_BLANK)
        while not self.text.startswith("]", self.at):
            items.append(self.value())
            commas.append(self.comma())
        self.at += 1
        data = [item.data for item in items]
        return Value(start, self.at, data, items=tuple(items), commas=tuple(commas))

    def inline_table(self) -> Value:
        start = self.at
        self.at += 1
        members: list[Pair] = []
        self.past(_BLANK)
        while not self.text.startswith("}", self.at):
            member = self.member()
            comma = self.comma()
            members.append(
                Pair(member.start, member.name_start, member.key_end, member.key, member.value,
                       comma)
            )  # fmt: skip
        self.at += 1
        return Value(start, self.at, None, members=tuple(members))

    def comma(self) -> int:
        self.past(_BLANK)
        if not self.text.startswith(",", self.at):
            return -1
        comma = self.at
        self.at += 1
        self.past(_BLANK)
        return comma

    def add(self, path: tuple[str, ...], member: Pair, container: Value | None) -> None:
        """Add an entry, and the entries of an inline table in it."""
        entry = TomlEntry(path, member, container)
        self.found.append(entry)
        for inner in member.value.members:
            self.add(entry.full, inner, member.value)
