"""What has to be written, kept or removed so that every piece is as it should be. Pure.

Decided by what is there: nothing that somebody has edited, and nothing that we did not write, is
touched. What a distribution's package has already is not written again beside it.
"""

import enum
import gzip
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from scopekeeper.installing import mark, shipped
from scopekeeper.installing.mark import Origin
from scopekeeper.installing.places import Piece

Look = Callable[[str], bytes | None]
"""Returns what is at a path, None where nothing is."""


class Step(enum.Enum):
    """What becomes of one file."""

    WRITE = "write"
    REMOVE = "remove"
    NOTHING = "nothing"
    KEEP = "keep"
    """It is in the way, and not ours."""


@dataclass(frozen=True, slots=True)
class Action:
    """A step for one path, and why."""

    step: Step
    piece: Piece
    content: bytes = b""
    why: str = ""

    @property
    def path(self) -> str:
        """The file that is meant."""
        return self.piece.path


def install(pieces: Iterable[Piece], look: Look) -> list[Action]:
    """Return what brings every piece to its place and to this version."""
    return [_install(piece, look) for piece in pieces]


def _install(piece: Piece, look: Look) -> Action:
    raw = look(piece.path)
    provided = _provided(piece, look)
    whose = _whose(piece, raw)
    if provided:
        if raw is None:
            return Action(Step.NOTHING, piece, why=f"{provided} has it")
        if whose is Origin.OURS:
            return Action(Step.REMOVE, piece, why=f"{provided} has it")
        return Action(Step.KEEP, piece, why=f"it goes before {provided}")
    content = mark.marked(piece.text, piece.path)
    if raw is None:
        return Action(Step.WRITE, piece, content)
    if raw == content or (piece.is_document and raw == piece.text.encode()):
        return Action(Step.NOTHING, piece)
    if whose is Origin.OURS:
        return Action(Step.WRITE, piece, content, "another version")
    why = "it was edited" if whose is Origin.EDITED else "somebody else wrote it"
    return Action(Step.KEEP, piece, why=f"{why}; remove it to have ours")


def uninstall(pieces: Iterable[Piece], look: Look) -> list[Action]:
    """Return what removes every piece that install wrote, of whichever version."""
    found = []
    for piece in pieces:
        raw = look(piece.path)
        whose = _whose(piece, raw)
        if raw is None or (piece.is_document and whose is Origin.FOREIGN):
            found.append(Action(Step.NOTHING, piece))
        elif whose is Origin.OURS:
            found.append(Action(Step.REMOVE, piece))
        else:
            why = "it was edited" if whose is Origin.EDITED else "somebody else wrote it"
            found.append(Action(Step.KEEP, piece, why=why))
    return found


def _whose(piece: Piece, raw: bytes | None) -> Origin:
    """Tell whose a file is; a copy made by hand of what is shipped, for any program, is ours."""
    if raw is None:
        return Origin.FOREIGN
    by_mark = mark.origin(raw)
    if by_mark is Origin.FOREIGN and not piece.is_document and _same(piece, raw):
        return Origin.OURS
    return by_mark


def _same(piece: Piece, raw: bytes) -> bool:
    """Tell whether a file has the text of a piece, for whichever program.

    A completion asks the program, whichever version: its text is that of the click it was made by.
    """
    if piece.is_document and "man/" not in piece.name:
        return True
    text = raw.decode("utf-8", "replace")
    return shipped.for_any(text) == shipped.for_any(piece.text)


def _provided(piece: Piece, look: Look) -> str:
    """Return where somebody else has put a piece of this version; '' where nobody has."""
    # what Debian's packages bring for zsh lies apart from what administrators do
    vendor = piece.name.replace("zsh/site-functions/", "zsh/vendor-completions/")
    names = dict.fromkeys((piece.name, vendor))
    for path in (f"{folder}/{name}" for folder in piece.elsewhere for name in names):
        raw = look(path)
        if raw is not None and mark.origin(raw) is Origin.FOREIGN and _same(piece, raw):
            return path
        packed = look(f"{path}.gz") if piece.is_document and "man/" in piece.name else None
        if packed is not None and _same(piece, _unpacked(packed)):
            return f"{path}.gz"
    return ""


def _unpacked(raw: bytes) -> bytes:
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError):
        return b""
