"""What a host answered: parsed once, with the type of each value checked. Pure.

Whoever controls that host chose every byte. A value of another type than expected is a
BadAnswerError; texts are made safe where they are printed.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from scopekeeper.errors import FAILED
from scopekeeper.hosts.ask import Reply
from scopekeeper.hosts.ssh import MARK

VERSION = 1
"""Of the JSON documents that are understood."""
_SSH_FAILED = 255
_NOT_FOUND = 127
_REFUSED = (
    "Host key verification failed",
    "Permission denied (",
    "Too many authentication failures",
)
"""What ssh prints if there was no session; its own name begins the lines before a connection."""
_LARGEST = float(1 << 62)
_MOST_LINES, _LONGEST = 20, 400
"""Lines that a host prints on standard error, and characters of one."""


class BadAnswerError(ValueError):
    """An answer that is no document of this version: one clause."""


@dataclass(frozen=True, slots=True)
class Fields:
    """A JSON object of an answer."""

    values: Mapping[str, object]

    def text(self, key: str) -> str:
        """Return a text; '' if it is null or missing."""
        value = self.values.get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise _wrong(key, "a text")
        return value

    def number(self, key: str) -> float | None:
        """Return a number; None if it is null or missing."""
        value = self.values.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _wrong(key, "a number")
        if not abs(value) < _LARGEST:  # NaN too
            raise _wrong(key, "a number of this size")
        return value

    def count(self, key: str) -> int | None:
        """Return a whole number; None if it is null or missing."""
        value = self.number(key)
        return None if value is None else int(value)

    def flag(self, key: str) -> bool:
        """Return whether it is true; a missing one is not."""
        value = self.values.get(key)
        if value not in (None, True, False):
            raise _wrong(key, "true or false")
        return bool(value)

    def below(self, key: str) -> "Fields | None":
        """Return an object; None if it is null or missing."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise _wrong(key, "an object")
        return Fields(value)

    def each(self, key: str) -> list["Fields"]:
        """Return the objects of a list, which has to be there."""
        found = []
        for each in self._list(key):
            if not isinstance(each, dict):
                raise _wrong(key, "a list of objects")
            found.append(Fields(each))
        return found

    def texts(self, key: str) -> list[str]:
        """Return the texts of a list, which has to be there."""
        found = [each for each in self._list(key) if isinstance(each, str)]
        if len(found) < self.length(key):
            raise _wrong(key, "a list of texts")
        return found

    def counts(self, key: str) -> list[int]:
        """Return the whole numbers of a list, which has to be there."""
        found = [each for each in self._list(key) if isinstance(each, int)]
        if len(found) < self.length(key):
            raise _wrong(key, "a list of whole numbers")
        return found

    def numbers(self, key: str) -> dict[str, float]:
        """Return the numbers of an object by name; {} if it is null or missing."""
        inside = self.below(key)
        found = {} if inside is None else {name: inside.number(name) for name in inside.values}
        return {name: value for name, value in found.items() if value is not None}

    def length(self, key: str) -> int:
        """Return how many values a list has; 0 if it is missing."""
        return len(self._list(key)) if self.values.get(key) is not None else 0

    def _list(self, key: str) -> list[object]:
        value = self.values.get(key)
        if value is None:
            raise BadAnswerError(f"its answer has no {key!r}: its scopekeeper is older, or newer")
        if not isinstance(value, list):
            raise _wrong(key, "a list")
        return value


def _wrong(key: str, what: str) -> BadAnswerError:
    return BadAnswerError(f"{key!r} in its answer is not {what}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What one host answered."""

    host: str
    status: int
    """The exit status of its scopekeeper; FAILED if there is no answer."""
    document: Fields | None = None
    """None if there is a problem, then without anything to print."""
    problem: str = ""
    """Why there is no answer, or why it may be incomplete; one clause."""
    messages: tuple[str, ...] = ()
    """What its scopekeeper printed on standard error, without its own name."""
    may_have_acted: bool = False
    """Whether its scopekeeper may have begun, though there is no answer."""


def read(host: str, reply: Reply) -> Answer:
    """Return the answer that a reply of ssh has."""
    _, began, answer = reply.out.partition(f"{MARK}\n".encode())
    before, has_mark, after = reply.err.partition(f"{MARK}\n".encode())
    messages = _lines(after if has_mark else b"")
    noise = _lines(before)
    if reply.problem:
        return Answer(host, FAILED, None, reply.problem, messages, may_have_acted=True)
    status = FAILED if reply.status is None else reply.status
    if not began:
        return Answer(host, FAILED, None, _unreached(status, noise),
                      may_have_acted=not _never_began(status, noise))  # fmt: skip
    if not answer.strip():
        last = messages[-1] if messages else ""
        if status == _NOT_FOUND:
            return Answer(host, FAILED, None, "scopekeeper is not in the PATH of ssh's commands")
        if status in (0, _SSH_FAILED) or status < 0:
            said = f": {last}" if last else ""
            return Answer(host, FAILED, None, f"the connection was lost{said}",
                          may_have_acted=True)  # fmt: skip
        return Answer(host, status, None, last or f"its scopekeeper ended with status {status}",
                      messages[:-1])  # fmt: skip
    try:
        document = parse(answer)
    except BadAnswerError as error:
        return Answer(host, FAILED, None, str(error), messages, may_have_acted=True)
    if status == _SSH_FAILED or status < 0:
        return Answer(host, FAILED, document, "the connection was lost after its answer", messages)
    return Answer(host, status, document, "", messages)


def _never_began(status: int, noise: tuple[str, ...]) -> bool:
    """Return whether it is certain that no command was started: the mark comes before all else.

    A connection that broke a moment later may have lost the mark.
    """
    if status != _SSH_FAILED:
        return status >= 0
    last = noise[-1] if noise else ""
    return last.startswith("ssh: ") or any(words in last for words in _REFUSED)


def _unreached(status: int, noise: tuple[str, ...]) -> str:
    said = noise[-1].removeprefix("ssh: ") if noise else ""
    if status == _SSH_FAILED:
        return f"ssh: {said}" if said else "ssh failed"
    return f"it ran no command{f': {said}' if said else ''}"


def parse(answer: bytes) -> Fields:
    """Return the document of an answer; raises BadAnswerError."""
    try:
        text = answer.decode("utf-8")
        document = json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise BadAnswerError("its answer is nested too deeply") from None
    except ValueError:
        raise BadAnswerError("its answer is no JSON, or not all of it") from None
    if not isinstance(document, dict):
        raise BadAnswerError("its answer is no JSON object")
    if re.search(r"\\u[dD][89a-fA-F]", text):
        _require_unicode(document)
    version = document.get("version")
    if version != VERSION or isinstance(version, bool):
        shown = version if isinstance(version, int) and abs(version) < 1 << 31 else "unknown"
        raise BadAnswerError(
            f"its answer has version {shown}, this scopekeeper reads {VERSION}: update the older"
        )
    return Fields(document)


def _no_constant(name: str) -> float:
    raise ValueError(name)


def _require_unicode(document: object) -> None:
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise BadAnswerError("its answer has text that is not Unicode") from None


def _lines(raw: bytes) -> tuple[str, ...]:
    """Return the last lines of standard error, without the name of the program."""
    text = raw.decode("utf-8", "backslashreplace")
    lines = [line.strip().removeprefix("scopekeeper: ") for line in text.splitlines()]
    lines = [line for line in lines if line]
    shown = [line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…" for line in lines]
    return tuple(shown[-_MOST_LINES:])
