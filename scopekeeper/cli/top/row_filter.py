"""The filter of ``top``: words that a row has to have, and conditions as ``--where`` has. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from scopekeeper.cli.list_where import Condition, condition
from scopekeeper.cli.top.rows import COLUMNS, NAMES, TopRow

_IN = tuple(
    NAMES.index(name)
    for name in ("host", "session", "lane", "run", "member", "kind", "state", "owner", "label",
                 "session-id", "unit", "user")
)  # fmt: skip
"""The columns in which words are searched."""
_SIGNS = ("=", "<", ">", "~", "!")
_OPTION = "--where: "


@dataclass(frozen=True, slots=True)
class Filter:
    """What a row has to fulfil."""

    words: tuple[str, ...] = ()
    """Each is in one of its texts, in any case."""
    conditions: tuple[Condition, ...] = ()

    def holds(self, row: TopRow) -> bool:
        """Return whether a row fulfils it."""
        if not all(each.holds(row.cells[each.at]) for each in self.conditions):
            return False
        if not self.words:
            return True
        texts = [str(row.cells[at].value or "").casefold() for at in _IN]
        return all(any(word in text for text in texts) for word in self.words)


def parse(text: str, now: float, besides: Sequence[Condition] = ()) -> Filter:
    """Return the filter that a text states; now is in seconds since the epoch.

    A word is a condition if it begins with the name of a field and a sign: ``memory>1G``. No name
    has ``<`` or ``>``, so a word with one is meant as a condition, too. besides are conditions that
    hold as well. Raises ValueError with one sentence.
    """
    words, conditions = [], list(besides)
    for word in text.split():
        sign = next((char for char in word if char in _SIGNS), "\0")
        field = word.partition(sign)[0]
        if sign in "<>" or (field != word and field.lower() in NAMES):
            try:
                conditions.append(condition(word, COLUMNS, now))
            except ValueError as error:
                raise ValueError(str(error).removeprefix(_OPTION)) from None
        else:
            words.append(word.casefold())
    return Filter(tuple(words), tuple(conditions))
