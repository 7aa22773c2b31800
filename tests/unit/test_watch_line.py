"""What `watch` prints in words."""

import pytest

from scopekeeper.cli.table import width_of
from scopekeeper.cli.watch_line import HEADER, cells, line

ENDED = {
    "event": "MemberEnded", "session": "agent:main:telegram:direct:123456789", "lane": "main",
    "run": "", "member": "filesystem", "reason": "owner gone",
    "evidence": "process 4211 has ended; its grace of 30s is over, and nobody adopted it",
}  # fmt: skip


def test_an_event_is_a_word_in_the_past_and_what_was_there_is_in_a_state():
    said = {"session": "s", "lane": "main", "run": "", "member": "x"}
    for event, new, there in (
        ("ScopeStarted", "scope started", "scope runs"), ("MemberStarted", "started", "runs"),
    ):  # fmt: skip
        assert cells("", {"event": event, "present": False, **said})[1] == new
        assert cells("", {"event": event, "present": True, **said})[1] == there
    assert cells("", ENDED)[1:6] == ("ended", ENDED["session"], "main", "-", "filesystem")


@pytest.mark.parametrize("width", [50, 80, 100, 300])
def test_on_a_terminal_no_line_wraps_and_no_word_of_the_detail_is_broken(width):
    header = line(HEADER, width)
    row = line(cells("14:30:05", ENDED), width)
    lines, titles = row.text.split("\n"), header.text.split("\n")
    assert all(width_of(each) <= width for each in (*titles, *lines))
    columns = [("EVENT", "ended"), ("LANE", "main  "), ("MEMBER", "filesystem")]
    for title, cell in columns if width >= 80 else columns[:1]:
        assert lines[0].index(cell) == titles[0].index(title)
    assert "agent:main:…:123456789" in lines[0]
    assert ENDED["evidence"] in " ".join(" ".join(lines).split())


@pytest.mark.parametrize("width", [50, 64, 80, 100, 113, None])
def test_every_title_is_shown_or_named_as_dropped_and_is_where_its_cells_are(width):
    header, row = line(HEADER, width), line(cells("14:30:05", ENDED), width)
    assert {*header.text.split(), *header.dropped} == {*HEADER}
    dropped = {50: ("LANE", "RUN", "MEMBER"), 64: ("LANE", "RUN")}.get(width, ())
    assert header.dropped == row.dropped == dropped
    assert ("\n          DETAIL" in header.text) is (width is not None and width < 88)
    assert row.is_cut is (width is not None)
    assert not header.is_cut


def test_without_a_terminal_an_event_is_one_line_and_nothing_is_cut():
    row = line(cells("2026-01-31 14:30:05", ENDED), None)
    assert ENDED["session"] in row.text
    assert row.text.endswith(ENDED["evidence"])
    assert "\n" not in row.text
    assert row.text.index("ended") == line(HEADER, None).text.index("EVENT")


def test_what_it_shows_is_obeyed_by_no_terminal():
    odd = ENDED | {"session": "a\x1b[2Jb", "evidence": "x\ny"}
    assert "\x1b" not in line(cells("", odd), 300).text
    assert line(cells("", odd), 300).text.count("\n") == 0
