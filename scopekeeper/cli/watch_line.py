"""The lines of ``watch``: columns of fixed widths, since nobody knows what is yet to come. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scopekeeper.cli.table import GAP, cut_middle, width_of, with_short_ids, wrap
from scopekeeper.safe_text import safe

HEADER = ("TIME", "EVENT", "SESSION", "LANE", "RUN", "MEMBER", "DETAIL")
_DETAIL = len(HEADER) - 1
_WIDTHS = (8, 13, 22, 6, 8, 13)
"""Of all but the detail; together they fit 80 columns."""
_WHOLE_TIME = 19
"""Of a time with its date, where the output is no terminal."""
_DROPPED = (4, 3, 5)
"""What a narrow terminal does not show: the run first, then the lane, then the member."""
_WORDS = {
    "ScopeStarted": "scope started",
    "ScopeLabelled": "labelled",
    "MemberStarted": "started",
    "MemberEnded": "ended",
    "ScopeEnded": "scope ended",
    "OrphanFound": "lost owner",
    "RunWarning": "warned",
}
_PRESENT = {"ScopeStarted": "scope runs", "MemberStarted": "runs"}
"""For scopes and members that exist when ``watch`` starts."""


def cells(clock: str, fields: Mapping[str, object]) -> tuple[str, ...]:
    """Return the cells of an event: its fields as ``watch --json`` has them."""
    event = str(fields["event"])
    word = (_PRESENT if fields.get("present") else _WORDS)[event]
    session = str(fields.get("label") or fields.get("session") or "-")
    where = (str(fields.get(key) or "-") for key in ("lane", "run", "member"))
    said = [fields.get(key) for key in ("reason", "evidence", "warning")]
    if event == "ScopeLabelled":
        said.append(f"its session is {fields.get('session')}")
    return (clock, word, session, *where, ": ".join(str(each) for each in said if each))


@dataclass(frozen=True, slots=True)
class Line:
    """A row as it is printed: in several lines if its detail has no room beside the rest."""

    text: str
    dropped: tuple[str, ...] = ()
    """The titles of the columns that it does not show."""
    is_cut: bool = False
    """Whether a cell is shortened."""


def line(row: Sequence[str], width: int | None) -> Line:
    """Return a row, or the header, for a terminal of that width.

    Without a terminal, width is None, and nothing is cut or dropped.
    """
    whole = [safe(cell) for cell in row]
    shown = list(range(_DETAIL))
    widths = dict(enumerate(_WIDTHS))
    dropped: list[int] = []
    if width is None:
        widths[0] = _WHOLE_TIME
    else:
        for at in _DROPPED:
            if _total(widths) > width:
                dropped.append(at)
                shown.remove(at)
                del widths[at]
    cut = whole if width is None else [*map(_cut, whole[:_DETAIL], _WIDTHS), whole[_DETAIL]]
    padded = [cut[at] + " " * (widths[at] - width_of(cut[at])) for at in shown]
    titles = tuple(HEADER[at] for at in sorted(dropped))
    is_cut = any(cut[at] != whole[at] for at in shown)
    return Line(_joined(padded, whole[_DETAIL], width), titles, is_cut)


def _joined(padded: Sequence[str], detail: str, width: int | None) -> str:
    gap = " " * GAP
    whole = gap.join([*padded, detail]).rstrip(" ")
    if width is None or width_of(whole) <= width or not detail:
        return whole
    indent = " " * (_WIDTHS[0] + GAP)
    return "\n".join([gap.join(padded).rstrip(" "), *wrap(detail, width, indent, indent)])


def _total(widths: Mapping[int, int]) -> int:
    return sum(widths.values()) + GAP * (len(widths) - 1)


def _cut(cell: str, width: int) -> str:
    return cell if width_of(cell) <= width else cut_middle(with_short_ids(cell), width)
