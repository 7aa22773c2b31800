"""Reads the title of a session from the files of its client.

These belong to the client, and each process of the user can write to them. So only regular files of
this user are opened, links are not followed, a bounded number of bytes is read, and a line that is
no JSON object is skipped. What is found is not stored.
"""

import contextlib
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from scopekeeper.regular_files import open_regular

TITLE_MAX = 100
"""Characters of a title."""
ENTRIES_MAX = 1000
"""Entries of a folder that are looked at."""
_PIECE = 128 << 10
"""Bytes at the beginning and at the end of a file that are read."""
_TRIES = 1000
"""Paths that are tried for one session."""
_OWN_ID = object()

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Named:
    """A line that names a session; the last one in a file counts."""

    key: str
    """The key of the title."""
    where: tuple[tuple[str, object], ...]
    """Keys that have these values."""


def of_this_session(key: str) -> tuple[str, object]:
    """Return the condition that a key has the session's id."""
    return key, _OWN_ID


@dataclass(frozen=True, slots=True)
class Files:
    """Files in which a client names sessions."""

    paths: Callable[[str, str, list[str]], Iterable[str]]
    """Return where the file of a session can be: the likeliest first.

    It is called with the client's folder, the session's id, and the working directories of the
    client and its servers.
    """
    named: tuple[Named, ...]
    """Lines that name the session; an earlier kind overrides a later one."""
    prompt_mark: str = ""
    """A text that the line of each prompt has; '' if the files have no prompts."""
    prompt: Callable[[Line], str] = lambda _: ""
    """Return the text of a prompt, '' for other lines; without a name the first prompt counts."""


@dataclass(frozen=True, slots=True)
class Store:
    """Where a client keeps the titles of its sessions."""

    variable: str
    """The variable that names its folder."""
    folder: str
    """Its folder in the user's home without that variable."""
    files: tuple[Files, ...]

    def title(
        self, session_id: str, home: str, environment: Mapping[str, str], directories: list[str]
    ) -> str:
        """Return the title of a session, '' if it has none; environment is the client's."""
        folder = environment.get(self.variable, "")
        if not folder.startswith("/"):
            folder = f"{home}/{self.folder}"
        prompts = []
        for files in self.files:
            for path in itertools.islice(files.paths(folder, session_id, directories), _TRIES):
                with contextlib.suppress(OSError, ValueError):  # ValueError: NUL in a path
                    head, tail = _ends_of(path)
                    title = _name(files.named, session_id, (tail, head))
                    if title:
                        return title
                    prompts.append(_first_prompt(files, head))
                    break
        return next(filter(None, prompts), "")


def listed(folder: str) -> list[str]:
    """Return the names in a folder, not more than ENTRIES_MAX; none if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in itertools.islice(entries, ENTRIES_MAX)]
    except OSError:
        return []


def one_line(text: object) -> str:
    """Return a text as a title: one line, without blanks at its ends, cut at TITLE_MAX."""
    if not isinstance(text, str):
        return ""
    start = text[: TITLE_MAX * 10].encode("utf-8", "backslashreplace").decode()
    words = " ".join(start.split())
    return words if len(words) <= TITLE_MAX else f"{words[: TITLE_MAX - 1]}…"


def _ends_of(path: str) -> tuple[bytes, bytes]:
    """Return the beginning of a file, and the end as far as that is not in it; raises OSError."""
    fd = open_regular(path)
    try:
        size = os.fstat(fd).st_size
        head = os.pread(fd, _PIECE, 0)
        begin = max(size - _PIECE, len(head))
        tail = os.pread(fd, _PIECE, begin) if begin < size else b""
    finally:
        os.close(fd)
    return head, tail


def _name(kinds: tuple[Named, ...], session_id: str, pieces: tuple[bytes, ...]) -> str:
    """Return the last name in some pieces of a file; the last piece is searched first."""
    for kind in kinds:
        wanted = [(key, session_id if value is _OWN_ID else value) for key, value in kind.where]
        # an index has the same key in each line, and the id in few
        mark = session_id if any(value is _OWN_ID for _, value in kind.where) else kind.key
        for line in itertools.chain(*(_last_lines(piece, f'"{mark}"') for piece in pieces)):
            found = _parsed(line)
            title = one_line(found.get(kind.key))
            if title and all(found.get(key) == value for key, value in wanted):
                return title
    return ""


def _last_lines(piece: bytes, mark: str) -> Iterator[bytes]:
    """Yield the lines with a mark, the last one first: most lines are not even looked at."""
    wanted, end = mark.encode(), len(piece)
    while (at := piece.rfind(wanted, 0, end)) >= 0:
        begin = piece.rfind(b"\n", 0, at) + 1
        close = piece.find(b"\n", at)
        yield piece[begin : close if close >= 0 else len(piece)]
        end = begin


def _first_lines(piece: bytes, mark: str) -> Iterator[bytes]:
    """Yield the lines with a mark, the first one first."""
    wanted, close = mark.encode(), 0
    while (at := piece.find(wanted, close)) >= 0:
        begin = piece.rfind(b"\n", 0, at) + 1
        close = piece.find(b"\n", at)
        close = close if close >= 0 else len(piece)
        yield piece[begin:close]


def _first_prompt(files: Files, piece: bytes) -> str:
    lines = _first_lines(piece, f'"{files.prompt_mark}"') if files.prompt_mark else ()
    return next(filter(None, (one_line(files.prompt(_parsed(line))) for line in lines)), "")


def _parsed(line: bytes) -> Line:
    """Return a line's JSON object; an empty one if it is none."""
    try:
        found = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def texts_of(content: object, kind: str) -> Iterator[str]:
    """Yield the texts of a message: its content is a text, or a list of parts of this type."""
    if isinstance(content, str):
        yield content
    for part in content if isinstance(content, list) else ():
        text = part.get("text") if isinstance(part, dict) and part.get("type") == kind else None
        if isinstance(text, str):
            yield text
