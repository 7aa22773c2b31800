"""Decides which files to write, keep or remove. Pure.

Files that somebody edited, and files that we did not write, are kept. A file that a distribution's
package already installs is not written again.
"""

import enum
import gzip
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from scopekeeper.install import origin, shipped
from scopekeeper.install.locations import Piece
from scopekeeper.install.origin import Origin

Look = Callable[[str], bytes | None]
"""Returns the content of a path, None if it does not exist."""


class FileStep(enum.Enum):
    """What to do with one file."""

    WRITE = "write"
    REMOVE = "remove"
    NOTHING = "nothing"
    KEEP = "keep"
    """It is not ours; report it."""


@dataclass(frozen=True, slots=True)
class FileAction:
    """A step for one path, and why."""

    step: FileStep
    piece: Piece
    content: bytes = b""
    why: str = ""
    is_foreign: bool = False
    """Whether it is kept because somebody else wrote it."""

    @property
    def path(self) -> str:
        """The path of the file."""
        return self.piece.path


_WHOSE = {Origin.EDITED: "it was edited", Origin.FOREIGN: "somebody else wrote it"}


def install(pieces: Iterable[Piece], look: Look, *, force: bool = False) -> list[FileAction]:
    """Return the actions that install this version of every piece.

    force replaces edited files, but never those of somebody else.
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
    """Return the actions that remove every piece that any version of install wrote.

    force removes edited files, but never those of somebody else.
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
    """Return the actions to install all files of one folder, or none of them if one is kept."""
    kept = _kept(pieces, look, force=force)
    if kept:
        return kept
    contents = {piece.name: piece.text.encode() for piece in pieces}
    wanted = [*pieces, _like(pieces[0], origin.SUMS)]  # last, after the files that it lists
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
    """Return the actions that remove the files of a folder that install_together wrote."""
    kept = _kept(pieces, look, force=force)
    if kept:
        return kept
    former = origin.listed(look(_like(pieces[0], origin.SUMS).path) or b"")
    names = dict.fromkeys((*(piece.name for piece in pieces), *former, origin.SUMS))
    found = [_like(pieces[0], name) for name in names]
    return [FileAction(FileStep.REMOVE, piece) for piece in found if look(piece.path) is not None]


def _kept(pieces: Sequence[Piece], look: Look, *, force: bool) -> list[FileAction]:
    """Return the edited or foreign files that keep the whole folder in place."""
    sums = look(_like(pieces[0], origin.SUMS).path)
    listed = origin.listed(sums or b"")
    edited = [name for name, each in listed.items()
              if not origin.has_sum(look(_like(pieces[0], name).path), each)]  # fmt: skip
    # an unlisted file that is identical to the shipped one was copied by hand: it is ours
    foreign = [piece.name for piece in pieces if piece.name not in listed
               and look(piece.path) not in (None, piece.text.encode())]  # fmt: skip
    if sums is not None and not listed:
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
    """Return a piece of another name in the same folder."""
    return replace(piece, name=name, text="")


def _whose(piece: Piece, raw: bytes | None) -> Origin:
    """Return who wrote a file; a manual copy of a shipped file, for any program, is ours."""
    if raw is None:
        return Origin.FOREIGN
    by_mark = origin.origin(raw)
    if by_mark is Origin.FOREIGN and not piece.is_document and _same(piece, raw):
        return Origin.OURS
    return by_mark


def _same(piece: Piece, raw: bytes) -> bool:
    """Return whether a file has the text of a piece, for any program.

    Any completion will do: it asks the program, and its text depends on the version of click.
    """
    if piece.is_document and "man/" not in piece.name:
        return True
    text = raw.decode("utf-8", "replace")
    return shipped.for_any(text) == shipped.for_any(piece.text)


def _provided(piece: Piece, look: Look) -> str:
    """Return where somebody else installed this version of a piece; '' if nobody did."""
    # for zsh, Debian's packages use another folder than administrators
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
