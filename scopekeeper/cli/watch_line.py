"""The lines of ``watch``: columns of fixed widths, since nobody knows what is yet to come. Pure."""

from collections.abc import Mapping, Sequence

from scopekeeper.cli.table import GAP, cut_middle, width_of, with_short_ids, wrap
from scopekeeper.safe_text import safe

HEADER = ("TIME", "EVENT", "SESSION", "LANE", "RUN", "MEMBER", "DETAIL")
_WIDTHS = (8, 13, 22, 6, 8, 13)
"""Of all but the last; together they fit 80 columns."""
_WORDS = {
    "ScopeStarted": "scope started",
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
    where = (str(fields.get(key) or "-") for key in ("session", "lane", "run", "member"))
    said = (fields.get(key) for key in ("reason", "evidence", "warning"))
    return (clock, word, *where, ": ".join(str(each) for each in said if each))


def line(row: Sequence[str], width: int | None) -> str:
    """Return a row; on a terminal cells are cut, and a detail without room has a line of its own.

    width is that of the terminal, None without one.
    """
    *short, detail = map(safe, row)
    if width is not None:
        short = [_cut(cell, most) for cell, most in zip(short, _WIDTHS, strict=True)]
    padded = [
        cell + " " * (most - width_of(cell)) for cell, most in zip(short, _WIDTHS, strict=True)
    ]
    gap = " " * GAP
    whole = gap.join([*padded, detail]).rstrip(" ")
    if width is None or width_of(whole) <= width or not detail:
        return whole
    indent = " " * (_WIDTHS[0] + GAP)
    first = gap.join(padded).rstrip(" ")
    return first if row == HEADER else "\n".join([first, *wrap(detail, width, indent, indent)])


def _cut(cell: str, width: int) -> str:
    return cell if width_of(cell) <= width else cut_middle(with_short_ids(cell), width)
