"""Marks a file as written by ``scopekeeper install``, and detects later edits. Pure.

The first or the last line is a comment with a checksum of all other lines. So files of older
versions are recognised, and an edited file never counts as ours. For files that cannot all have a
comment, one file in their folder lists the checksums.
"""

import enum
import hashlib
import re
from collections.abc import Mapping

_WORDS = "scopekeeper install wrote this"
_MARK = re.compile(rb"[^\n]*scopekeeper install wrote this \(sum ([0-9a-f]{16})\)[^\n]*\n")
_XML = "<!-- {} -->"
_ROFF = r".\" {}"
_HASH = "# {}"
_LAST = ("man/", "zsh/")
"""Files whose first line has a meaning: to man(1), and to zsh's compinit."""


SUMS = "scopekeeper.sums"
"""The file with the checksums of others, in the format of sha256sum(1)."""
_SUM = re.compile(rb"([0-9a-f]{64})  ([\w-][\w.-]*)\n")


class Origin(enum.Enum):
    """Who wrote a file."""

    OURS = "ours"
    EDITED = "edited"
    FOREIGN = "foreign"


def marked(text: str, name: str) -> bytes:
    """Return the text with its mark; name is its path below the folder of its kind."""
    raw = text.encode()
    raw = raw if raw.endswith(b"\n") else raw + b"\n"
    comment = _XML if name.endswith(".conf") and text.startswith("<") else _HASH
    if "/man/" in f"/{name}":
        comment = _ROFF
    words = f"{_WORDS} (sum {_sum(raw)}); changes to it are kept, and end its updates"
    line = comment.format(words).encode() + b"\n"
    return raw + line if any(part in name for part in _LAST) else line + raw


def origin(raw: bytes) -> Origin:
    """Return who wrote a file, judged by its mark."""
    digest, rest = _split(raw)
    if not digest:
        return Origin.FOREIGN
    return Origin.OURS if digest == _sum(rest) else Origin.EDITED


def sums(files: Mapping[str, bytes]) -> bytes:
    """Return the content of SUMS for files in its folder, by name."""
    lines = (f"{_whole_sum(raw)}  {name}\n" for name, raw in sorted(files.items()))
    return marked("".join(lines), SUMS)


def listed(raw: bytes) -> dict[str, str]:
    """Return the checksums in our SUMS by name; empty if it was edited or is not ours."""
    if origin(raw) is not Origin.OURS:
        return {}
    return {name.decode(): digest.decode() for digest, name in _SUM.findall(raw)}


def has_sum(raw: bytes | None, digest: str) -> bool:
    """Return whether a file exists and has the listed checksum."""
    return raw is not None and _whole_sum(raw) == digest


def _whole_sum(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _split(raw: bytes) -> tuple[str, bytes]:
    first = _MARK.match(raw)
    if first:
        return first[1].decode(), raw[first.end() :]
    at = raw.rfind(b"\n", 0, -1) + 1
    last = _MARK.fullmatch(raw, at)
    return (last[1].decode(), raw[:at]) if last else ("", raw)


def _sum(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:16]
