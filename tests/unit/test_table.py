"""A table fits the terminal at any width, and what it leaves out is what is needed least."""

import re
import unicodedata
import uuid
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.cli.colour import PAINTED, Paint
from scopekeeper.cli.table import Column, Fit, cut_middle, lay_out, width_of, wrap
from scopekeeper.safe_text import safe

TEXTS = st.text(
    st.sampled_from("ab:- …日本👩💻\u200d\ufe0fe\u0301\x1b\n\t\r\u202e\x9b"), max_size=40
)
COLUMNS = st.lists(
    st.builds(
        Column,
        st.text("ABCD", min_size=1, max_size=7),
        st.sampled_from(Fit),
        st.integers(1, 24),
        st.integers(0, 9),
        st.booleans(),
    ),
    min_size=1,
    max_size=8,
)


@st.composite
def tables(draw):
    columns = draw(COLUMNS)
    row = st.lists(TEXTS, min_size=len(columns), max_size=len(columns))
    return columns, draw(st.lists(row, max_size=5))


def lines_of(table):
    return [table.header, *(line for row in table.rows for line in row)]


def taken(line):
    """Return the columns that a terminal gives a line: the Unicode standard's, summed up."""
    return sum(
        0 if unicodedata.category(c) in ("Mn", "Me", "Cf")
        else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in line
    )  # fmt: skip


@given(tables(), st.integers(1, 120))
def test_no_line_is_wider_than_the_terminal(table, width):
    for line in lines_of(lay_out(*table, width)):
        assert taken(line) <= width
        assert line.isprintable() or line == safe(line), "a terminal obeys nothing in it"


@given(tables(), st.none() | st.integers(1, 120))
def test_colours_change_no_character_and_end_in_their_line(table, width):
    columns, rows = table
    painted = [replace(c, paints=dict.fromkeys((x for row in rows for x in row), Paint.RED))
               for c in columns]  # fmt: skip
    plain, coloured = lay_out(columns, rows, width), lay_out(painted, rows, width, coloured=True)
    for before, after in zip(lines_of(plain), lines_of(coloured), strict=True):
        assert re.sub(PAINTED, "", after).rstrip(" ") == before
        begun, ended = after.count("\x1b["), after.count("\x1b[0m")
        assert begun == 2 * ended
        assert begun == len(re.findall(PAINTED, after)), "no other sequence is in it"
    assert lay_out(painted, rows, width) == plain


@given(tables())
def test_without_a_terminal_everything_is_there_in_full(table):
    columns, rows = table
    drawn = lay_out(columns, rows)
    assert drawn.header.split() == [column.title for column in columns]
    assert (drawn.dropped, drawn.is_cut) == ((), False)
    for row, (line,) in zip(rows, drawn.rows, strict=True):
        for cell in row:
            assert safe(cell).strip(" ") in line


@given(tables(), st.integers(1, 120))
def test_what_is_needed_least_goes_first(table, width):
    columns, rows = table
    columns = [Column(str(at), c.fit, c.least, c.need, c.right) for at, c in enumerate(columns)]
    drawn = lay_out(columns, rows, width)
    if drawn.dropped and "0" in drawn.header.split():
        kept = [columns[int(title)].need for title in drawn.header.split() if title.isdigit()]
        gone = [columns[int(title)].need for title in drawn.dropped]
        assert max(kept) <= max(gone)


@given(tables())
def test_a_terminal_with_room_shows_all_but_empty_columns(table):
    columns, rows = table
    drawn = lay_out(columns, rows, 10_000)
    empty = [
        at for at, c in enumerate(columns)
        if c.need and rows and all(row[at] in ("", "-") for row in rows)
    ]  # fmt: skip
    titles = [c.title for at, c in enumerate(columns) if at not in empty] or [columns[0].title]
    assert (drawn.header.split(), drawn.dropped, drawn.is_cut) == (titles, (), False)


@given(st.lists(st.uuids(), min_size=2, max_size=5, unique=True), st.booleans())
def test_ids_are_short_where_they_stay_distinct(ids, alike):
    if alike:
        ids[1] = uuid.UUID(hex=ids[0].hex[:8] + ids[1].hex[8:])
    texts = [f"agent:main:cron:{each}" for each in ids]
    columns = [Column("SESSION", Fit.MIDDLE, 60), Column("STATE")]
    rows = lay_out(columns, [(text, "running") for text in texts], 60).rows
    shown = [row[0].split()[0] for row in rows]
    assert len(set(shown)) == len(set(texts))
    if len({each.hex[:8] for each in ids}) == len(ids):
        assert shown == [f"{text[:24]}…" for text in texts]


def test_a_session_is_cut_in_its_middle_at_its_colons():
    key = "agent:main:telegram:direct:7f3a9c21"
    assert cut_middle(key, 21) == "agent:main:…:7f3a9c21"
    assert cut_middle(key, 35) == key
    assert cut_middle("nothing-to-cut-it-at", 11) == "nothi…it-at"


@given(TEXTS, st.integers(1, 60))
def test_a_cut_text_keeps_both_ends(text, width):
    text = safe(text)
    cut = cut_middle(text, width)
    assert width_of(cut) <= width
    ways = [(cut[:at], cut[at + 1 :]) for at, char in enumerate(cut) if char == "…"]
    assert text == cut or any(text.startswith(a) and text.endswith(z) for a, z in ways)


@given(st.lists(st.text("abc日", min_size=1, max_size=12), min_size=1), st.integers(1, 40))
def test_a_text_wraps_between_words_and_never_inside(words, width):
    lines = wrap(" ".join(words), width, "  ", "    ")
    assert " ".join(lines).split() == words
    for line in lines:
        assert width_of(line) <= width or len(line.split()) == 1


@pytest.mark.parametrize("width", [80, 60, 40])
def test_a_header_never_wraps_and_names_come_whole_or_not_at_all(width):
    columns = [
        Column("SESSION", Fit.MIDDLE, 21), Column("STATE", need=1), Column("OWNER", Fit.END, 12, 2),
        Column("MEMBERS", need=3, right=True), Column("CPU", need=4, right=True),
    ]  # fmt: skip
    rows = [("agent:main:telegram:direct:123456789", "running", "gateway.service", "9", "6.2s")]
    drawn = lay_out(columns, rows, width)
    assert set(drawn.header.split()) | set(drawn.dropped) == {c.title for c in columns}
    assert "running" in drawn.rows[0][0]
