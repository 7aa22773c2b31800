"""Replaces the names in a report by numbered ones, the same name by the same one everywhere. Pure.

Names of sessions, members and lanes, and ids of sessions and runs are what a gateway and its user
chose. A key of the report says what its text is; in free text, such as a line of the log, every
name that occurs anywhere in the report is replaced, also inside of units and paths.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from scopekeeper.safe_text import safe
from scopekeeper.scope import names

_KINDS = {
    "session": "session", "session_id": "id", "run": "id", "name": "member", "member": "member",
    "lane": "lane", "label": "session",
}  # fmt: skip
"""What the text of a key is."""
_AS_THEY_ARE = frozenset((
    "check", "status", "verdict", "state", "kind", "lifetime", "reason", "priority", "time",
    "boot_id", "epoch", "id", "member_id",
))  # fmt: skip
"""Keys whose text is scopekeeper's own or the kernel's."""
_OURS = "scopekeeper"
"""The session of the trial of ``doctor``; that word stays."""
_UNIT = r"scopekeeper-[\w:.\\-]+\.scope"
_LEAF = r"(?<![\w.-])m-[\w:.\\-]+\.[0-9a-f]{8}(?![0-9a-f])"
_FOUND = re.compile(f"{_UNIT}|{_LEAF}")
_WORD = re.compile(r"\w+")
_PLACE = re.compile(f"{_UNIT}|{_LEAF}|{_WORD.pattern}")
"""Where a name can stand in a text."""


class HiddenNames:
    """The names of one report; user is the login name of whoever makes it, '' to leave it."""

    def __init__(self, report: Mapping[str, Any], user: str = "") -> None:
        self._known: dict[tuple[str, str], str] = {}
        self._count: Counter[str] = Counter()
        self._aliases: dict[str, str] = {}
        self._cut = dict(_cut_units(report))
        self._user = user
        for key, text in _texts(report):
            if key in _KINDS:
                self._alias_of(key, text)
            elif key not in _AS_THEY_ARE:
                for found in _FOUND.findall(text):
                    self._alias(found)
        self._forms = self._by_first_word()

    def replace(self, value: Any, key: str = "") -> Any:  # noqa: ANN401  any JSON value
        """Return the report, or a part of it, with its names replaced."""
        if isinstance(value, dict):
            return {each: self.replace(inner, _key(key, each)) for each, inner in value.items()}
        if isinstance(value, list):
            return [self.replace(inner, key) for inner in value]
        if not isinstance(value, str) or key in _AS_THEY_ARE:
            return value
        return self._alias_of(key, value) if key in _KINDS else self._in_text(value)

    def _alias_of(self, key: str, text: str) -> str:
        kind = _KINDS[key]
        if kind == "member" and names.parse_leaf(text) is not None:
            return self._alias(text)  # in the journal a member is its leaf
        return self._lane(text) if kind == "lane" else self._name(kind, text)

    def _name(self, kind: str, text: str) -> str:
        if text in ("", _OURS):
            return text
        if (kind, text) not in self._known:
            self._count[kind] += 1
            self._known[kind, text] = f"{kind}-{self._count[kind]}"
        return self._known[kind, text]

    def _lane(self, lane: str) -> str:
        """Keep a lane's class, which rules name."""
        lane_class, colon, rest = lane.partition(":")
        return f"{lane_class}:{self._name('lane', rest)}" if colon else lane

    def _alias(self, found: str) -> str:
        """Return the alias of a unit or a leaf, with the aliases of its names."""
        unit, leaf = names.parse_unit(found), names.parse_leaf(found)
        if unit is not None:
            session, lane, run = self._cut.get(found, unit[:3])
            return names.unit_name(
                self._name("session", session), self._lane(lane), self._name("id", run)
            )
        if leaf is not None:
            return names.leaf_name(self._name("member", leaf[0]), leaf[1])
        return found

    def _by_first_word(self) -> dict[str, list[tuple[int, int]]]:
        """Return for a word how far it stands in a name, and how long that is: longest first.

        Names are then looked up by what stands there, so that a long text is searched once
        whatever their number. A name without any word is not found in texts.
        """
        for (_, text), alias in self._known.items():
            for form in (text, safe(text), repr(text)[1:-1], names.escape(text)):
                self._aliases.setdefault(form, alias)
        if self._user:
            self._aliases.setdefault(self._user, "user")
        found = defaultdict(set)
        for form in self._aliases:
            word = _WORD.search(form)
            if word is not None:
                found[word[0]].add((len(form), word.start()))
        return {word: sorted(spans, reverse=True) for word, spans in found.items()}

    def _in_text(self, text: str) -> str:
        pieces, done = [], 0
        place = _PLACE.search(text)
        while place is not None:
            begin, end, alias = self._at(text, place, done)
            pieces += [text[done:begin], alias]
            done = end
            place = _PLACE.search(text, done)
        return "".join((*pieces, text[done:]))

    def _at(self, text: str, place: re.Match[str], done: int) -> tuple[int, int, str]:
        """Return from where to where a name stands at a place, and its alias; else the word."""
        for length, offset in self._forms.get(place[0], ()):
            begin = place.start() - offset
            end = begin + length
            form = text[begin:end]
            is_whole = not _WORD.match(text, end) or not _WORD.match(form[-1:])
            if begin >= done and is_whole and form in self._aliases:
                return begin, end, self._aliases[form]
        whole = place[0]
        return *place.span(), self._alias(whole) if _FOUND.fullmatch(whole) else whole


def _cut_units(value: Any) -> Iterator[tuple[str, tuple[str, str, str]]]:  # noqa: ANN401
    """Yield each unit with its session, lane and run: a long name lacks the end of its session."""
    if isinstance(value, dict):
        if isinstance(value.get("unit"), str) and isinstance(value.get("session"), str):
            lane, run = (value.get(key) or "" for key in ("lane", "run"))
            yield value["unit"], (value["session"], lane, run)
        value = list(value.values())
    for inner in value if isinstance(value, list) else ():
        yield from _cut_units(inner)


def _key(outer: str, key: str) -> str:
    """Return what a key means below another: an owner's name is that of a program."""
    return "program" if (outer, key) == ("owner", "name") else key


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:  # noqa: ANN401
    """Yield every text with its key."""
    if isinstance(value, dict):
        for each, inner in value.items():
            yield from _texts(inner, _key(key, each))
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, key)
    elif isinstance(value, str):
        yield key, value
