"""What ``why`` says of one member: a sentence, and its details. Pure."""

from dataclasses import dataclass

from scopekeeper.cli.table import cut_middle, name_in_line, wrap
from scopekeeper.safe_text import safe

_INDENT = "    "


@dataclass(frozen=True, slots=True)
class Account:
    """A sentence on one member, and its details."""

    name: str
    where: str
    """Its leaf, session and lane."""
    said: str
    """What happened to it, or that it runs."""
    details: tuple[str, ...] = ()
    separator: str = "; "
    """Between the sentence and the first detail, where all is one line."""
    start: str = ""
    """Before the sentence: the moment of its end, and two spaces."""

    @property
    def line(self) -> str:
        """All of it as one line, so that grep finds it."""
        text = f"{self.start}{self.name} ({self.where}) {self.said}"
        if self.details:
            text += self.separator + "; ".join(self.details)
        return safe(text + ".")

    @property
    def _where_words(self) -> list[str]:
        return safe(self.where).split(" ")

    def lines(self, width: int | None, *, whole: bool = False) -> list[str]:
        """Return its lines for a terminal: details are below the sentence, never broken in a word.

        A long name is cut in the middle, unless whole. Without a terminal it is one line.
        """
        if width is None:
            return [self.line]
        name = self.name if whole else name_in_line(self.name, width)
        lines = paragraph(f"{self.start}{name} {self.said}.", width)
        room = max(width - 2 * len(_INDENT), 1)
        where = self.where if whole else " ".join(cut_middle(x, room) for x in self._where_words)
        for detail in (where, *self.details):
            lines += wrap(safe(detail), width, _INDENT, _INDENT + "  ")
        return lines


def paragraph(text: str, width: int | None) -> list[str]:
    """Return a text in lines of the terminal, all but the first indented; one line without it."""
    return [safe(text)] if width is None else wrap(safe(text), width, then=_INDENT)
