"""What has to be written, kept or removed so that every piece is as it should be. Pure.

Decided by what is there: nothing that somebody has edited, and nothing that we did not write, is
touched. What a distribution's package has already is not written again beside it.
"""

import enum
import gzip
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from scopekeeper.install import origin, shipped
from scopekeeper.install.locations import Piece
from scopekeeper.install.origin import Origin

Look = Callable[[str], bytes | None]
"""Returns what is at a path, None where nothing is."""


class FileStep(enum.Enum):
    """What becomes of one file."""

    WRITE = "write"
    REMOVE = "remove"
    NOTHING = "nothing"
    KEEP = "keep"
    """It is in the way, and not ours."""


@dataclass(frozen=True, slots=True)
class FileAction:
    """A step for one path, and why."""

    step: FileStep
    piece: Piece
    content: bytes = b""
    why: str = ""
    is_foreign: bool = False
    """Whether it is kept since somebody else wrote it."""

    @property
    def path(self) -> str:
        """The file that is meant."""
        return self.piece.path


_WHOSE = {Origin.EDITED: "it was edited", Origin.FOREIGN: "somebody else wrote it"}


def install(pieces: Iterable[Piece], look: Look, *, force: bool = False) -> list[FileAction]:
    """Return what brings every piece to its place and to this version.

    force replaces what was edited, and never what somebody else wrote.
    """
    return [_install(piece, look, force=force) for piece in pieces]


def _install(piece: Piece, look: Look, *, force: bool) -> FileAction:
    raw = look(piece.path)
    provided = _provided(piece, look)
    whose = _whose(piece, raw)
    if force and whose is Origin.EDITED:
        whose = Origin.OURS
    if provided:
        if raw is None:
            return FileAction(FileStep.NOTHING, piece, why=f"{provided} has it")
        if whose is Origin.OURS:
            return FileAction(FileStep.REMOVE, piece, why=f"{provided} has it")
        return FileAction(FileStep.KEEP, piece, why=f"it goes before {provided}")
    content = origin.marked(piece.text, piece.path)
    if raw is None:
        return FileAction(FileStep.WRITE, piece, content)
    if raw == content or (piece.is_document and raw == piece.text.encode()):
        return FileAction(FileStep.NOTHING, piece)
    if whose is Origin.OURS:
        return FileAction(FileStep.WRITE, piece, content, "another version")
    return _keep(piece, whose, "; remove it to have ours")


def uninstall(pieces: Iterable[Piece], look: Look, *, force: bool = False) -> list[FileAction]:
    """Return what removes every piece that install wrote, of whichever version.

    force removes what was edited, and never what somebody else wrote.
    """
    found = []
    for piece in pieces:
        raw = look(piece.path)
        whose = _whose(piece, raw)
        if raw is None or (piece.is_document and whose is Origin.FOREIGN):
            found.append(FileAction(FileStep.NOTHING, piece))
        elif whose is Origin.OURS or (force and whose is Origin.EDITED):
            found.append(FileAction(FileStep.REMOVE, piece))
        else:
            found.append(_keep(piece, whose))
    return found


def install_together(
    pieces: Sequence[Piece], look: Look, *, force: bool = False
) -> list[FileAction]:
    """Return the same for all files of one folder, which are of one version or left alone."""
    kept = _kept(pieces, look, force=force)
    if kept:
        return kept
    contents = {piece.name: piece.text.encode() for piece in pieces}
    wanted = [*pieces, _like(pieces[0], origin.SUMS)]  # the last, when what it lists is there
    contents[origin.SUMS] = origin.sums(contents)
    found = []
    for piece in wanted:
        step = FileStep.NOTHING if look(piece.path) == contents[piece.name] else FileStep.WRITE
        found.append(FileAction(step, piece, contents[piece.name]))
    former = origin.listed(look(wanted[-1].path) or b"")
    gone = [_like(pieces[0], name) for name in former if name not in contents]
    return found + [
        FileAction(FileStep.REMOVE, piece) for piece in gone if look(piece.path) is not None
    ]


def uninstall_together(
    pieces: Sequence[Piece], look: Look, *, force: bool = False
) -> list[FileAction]:
    """Return what removes the files of one folder that install_together wrote."""
    kept = _kept(pieces, look, force=force)
    if kept:
        return kept
    former = origin.listed(look(_like(pieces[0], origin.SUMS).path) or b"")
    names = dict.fromkeys((*(piece.name for piece in pieces), *former, origin.SUMS))
    found = [_like(pieces[0], name) for name in names]
    return [FileAction(FileStep.REMOVE, piece) for piece in found if look(piece.path) is not None]


def _kept(pieces: Sequence[Piece], look: Look, *, force: bool) -> list[FileAction]:
    """Return the files for which their whole folder is left alone."""
    sums = look(_like(pieces[0], origin.SUMS).path)
    told = origin.listed(sums or b"")
    edited = [name for name, each in told.items()
              if not origin.has_sum(look(_like(pieces[0], name).path), each)]  # fmt: skip
    # what is not listed and is as it is shipped was copied by hand: it is ours
    foreign = [piece.name for piece in pieces if piece.name not in told
               and look(piece.path) not in (None, piece.text.encode())]  # fmt: skip
    if sums is not None and not told:
        (edited if origin.origin(sums) is Origin.EDITED else foreign).append(origin.SUMS)
    kept = dict.fromkeys(foreign, Origin.FOREIGN)
    kept |= {} if force else dict.fromkeys(edited, Origin.EDITED)
    why = ", and its folder is of one version"
    return [_keep(_like(pieces[0], name), whose, why) for name, whose in kept.items()]


def _keep(piece: Piece, whose: Origin, more: str = "") -> FileAction:
    return FileAction(
        FileStep.KEEP, piece, why=_WHOSE[whose] + more, is_foreign=whose is Origin.FOREIGN
    )


def _like(piece: Piece, name: str) -> Piece:
    """Return the piece of another name in the folder of one."""
    return replace(piece, name=name, text="")


def _whose(piece: Piece, raw: bytes | None) -> Origin:
    """Tell whose a file is; a copy made by hand of what is shipped, for any program, is ours."""
    if raw is None:
        return Origin.FOREIGN
    by_mark = origin.origin(raw)
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
        if raw is not None and origin.origin(raw) is Origin.FOREIGN and _same(piece, raw):
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
