"""Parses YAML with the place of every value. Pure.

ruamel.yaml splits a text into events with their offsets; it is imported only here, and only when
there is a YAML text to read. The values are those of the core schema of YAML 1.2. A value that
cannot be moved as it is written, such as an alias, carries the reason.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from scopekeeper.errors import ConfigError
from scopekeeper.mcp_configs.document import Pair, ParseError, Raw, Value, position

_MISSING = "it is YAML, and the library that reads it, ruamel.yaml, is not installed"
_INSTALL = (
    "install it beside scopekeeper: `pipx inject scopekeeper ruamel.yaml`, on Debian `sudo apt "
    "install python3-ruamel.yaml`"
)
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_WORDS_1_1 = {
    **dict.fromkeys(("yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("no", "No", "NO", "off", "Off", "OFF"), False),
}
_NUMBER = re.compile(
    r"[-+]?(?:0x[0-9a-fA-F_]+|0o?[0-7_]+|\.(?:inf|Inf|INF)|[0-9][0-9_]*(?::[0-5]?[0-9])*"
    r"(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?)|\.(?:nan|NaN|NAN)"
    r"|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt ].*)?"
)
_MERGE = "<<"
_BLANK = re.compile(r"(?:\s|(?<=\s)#[^\n\r]*)*")


@dataclass(frozen=True, slots=True)
class YamlDialect:
    """Which YAML a client reads."""

    name: str
    is_1_1: bool = False
    """Whether yes, no, on and off are booleans."""


YAML = YamlDialect("YAML")
YAML_1_1 = YamlDialect("YAML 1.1", is_1_1=True)


def parse(text: str, dialect: YamlDialect) -> tuple[Value, frozenset[int]]:
    """Return the value of a text, and the offsets of the values that an alias uses again.

    Raises ParseError, also for a duplicate key and a second document, and ConfigError without
    ruamel.yaml.
    """
    try:
        from ruamel.yaml import YAML as Parser  # noqa: N811  the dialect has the name
        from ruamel.yaml.error import MarkedYAMLError, YAMLError
    except ImportError:
        raise ConfigError(_MISSING, _INSTALL) from None
    builder = _Builder(text, Parser(typ="safe", pure=True).parse(text), dialect)
    try:
        return builder.document(), frozenset(builder.aliased)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise ParseError(str(error.problem or error.context), *where) from None
    except YAMLError as error:  # a character that YAML does not allow
        at = getattr(error, "position", 0)
        where = position(text, at if isinstance(at, int) else 0, "\n\r")
        raise ParseError(str(getattr(error, "reason", error)), *where) from None
    except RecursionError:
        raise ParseError("nested too deeply", 1, 1) from None


@dataclass(slots=True)
class _Builder:
    """Builds values from events."""

    text: str
    events: Iterator[Any]
    dialect: YamlDialect
    aliased: set[int] = field(default_factory=set)
    anchors: dict[str, Value] = field(default_factory=dict)

    def document(self) -> Value:
        root = Value(0, 0, None)
        documents = 0
        for event in self.events:
            kind = type(event).__name__
            if kind == "DocumentStartEvent":
                documents += 1
                if documents > 1:
                    raise self.error("a second document begins here", event.start_mark.index)
                root = self.value(next(self.events))
        return root

    def error(self, message: str, at: int) -> ParseError:
        return ParseError(message, *position(self.text, at, "\n\r"))

    def value(self, event: Any) -> Value:  # noqa: ANN401  ruamel.yaml's events have no common type
        kind = type(event).__name__
        if kind == "AliasEvent":
            return self.alias(event)
        if kind == "ScalarEvent":
            made = self.scalar(event)
        elif kind == "SequenceStartEvent":
            made = self.sequence(event)
        else:
            made = self.mapping(event)
        if event.anchor is not None:
            self.anchors[event.anchor] = made
        return made

    def alias(self, event: Any) -> Value:  # noqa: ANN401  as above
        start, end = event.start_mark.index, event.end_mark.index
        target = self.anchors.get(event.anchor)
        if target is None:
            raise self.error(f"there is no anchor &{event.anchor} before this alias", start)
        self.aliased.add(target.start)
        return Value(start, end, target.data, trouble=f"an alias (*{event.anchor})")

    def scalar(self, event: Any) -> Value:  # noqa: ANN401  as above
        start, end = event.start_mark.index, event.end_mark.index
        raw, data = self.text[start:end], event.value
        if event.style is None and event.implicit[0]:
            words = _WORDS | _WORDS_1_1 if self.dialect.is_1_1 else _WORDS
            if data in words:
                data = words[data]
            elif _NUMBER.fullmatch(data):
                data = Raw(data)
        trouble = _properties(event)
        if not trouble and ("\n" in raw or "\r" in raw or event.style in ("|", ">")):
            trouble = "text of several lines"
        return Value(start, end, data, trouble=trouble)

    def sequence(self, event: Any) -> Value:  # noqa: ANN401  as above
        items: list[Value] = []
        while type(inner := next(self.events)).__name__ != "SequenceEndEvent":
            items.append(self.value(inner))
        end = self.end(event, inner, items[-1].end if items else event.end_mark.index)
        commas = [self.comma(item.end) for item in items] if event.flow_style else []
        data = [item.data for item in items]
        return Value(event.start_mark.index, end, data, tuple(items), tuple(commas),
                     block=not event.flow_style, trouble=_properties(event))  # fmt: skip

    def mapping(self, event: Any) -> Value:  # noqa: ANN401  as above
        members: list[Pair] = []
        own: dict[str, object] = {}
        merged: dict[str, object] = {}
        while type(key := next(self.events)).__name__ != "MappingEndEvent":
            start, key_end = key.start_mark.index, key.end_mark.index
            if type(key).__name__ not in ("ScalarEvent", "AliasEvent"):
                raise self.error("a key that is a list or a mapping is not supported", start)
            name = str(self.value(key).data) if key.anchor is not None else key.value
            value = self.value(next(self.events))
            if name == _MERGE and self.text[start:key_end] == _MERGE:
                merged |= _merged(value.data)
                continue
            if name in own:
                raise self.error(f"duplicate key {name!r}", start)
            own[name] = value.data
            comma = self.comma(value.end) if event.flow_style else -1
            members.append(Pair(start, start, key_end, (name,), value, comma))
        end = self.end(event, key, members[-1].value.end if members else event.end_mark.index)
        return Value(event.start_mark.index, end, {**merged, **own}, members=tuple(members),
                     block=not event.flow_style, trouble=_properties(event))  # fmt: skip

    def end(self, event: Any, last: Any, inner: int) -> int:  # noqa: ANN401  as above
        """Return the end of a collection; that of a block is the end of what is in it."""
        return int(last.end_mark.index) if event.flow_style else inner

    def comma(self, at: int) -> int:
        """Return the offset of the comma after a value in brackets; -1 if there is none."""
        after = _BLANK.match(self.text, at)
        at = after.end() if after else at
        return at if self.text.startswith(",", at) else -1


def _properties(event: Any) -> str:  # noqa: ANN401  as above
    if event.anchor is not None:
        return f"marked by an anchor (&{event.anchor})"
    return "marked by a tag" if event.tag is not None else ""


def _merged(data: object) -> dict[str, object]:
    """Return what a merge key brings: one mapping, or several; earlier ones override."""
    found: dict[str, object] = {}
    for each in reversed(data if isinstance(data, list) else [data]):
        found |= each if isinstance(each, dict) else {}
    return found
