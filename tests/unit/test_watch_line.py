"""What `watch` prints in words."""

import pytest

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


@pytest.mark.parametrize("width", [80, 100, 300])
def test_on_a_terminal_no_line_wraps_and_no_word_of_the_detail_is_broken(width):
    header = line(HEADER, width)
    lines = line(cells("14:30:05", ENDED), width).split("\n")
    assert all(len(each) <= width for each in (header, *lines))
    for title, cell in (("EVENT", "ended"), ("LANE", "main  "), ("MEMBER", "filesystem")):
        assert lines[0].index(cell) == header.index(title)
    assert "agent:main:…:123456789" in lines[0]
    assert ENDED["evidence"] in " ".join(" ".join(lines).split())


def test_without_a_terminal_an_event_is_one_line_and_nothing_is_cut():
    text = line(cells("14:30:05", ENDED), None)
    assert ENDED["session"] in text
    assert text.endswith(ENDED["evidence"])
    assert "\n" not in text


def test_what_it_shows_is_obeyed_by_no_terminal():
    odd = ENDED | {"session": "a\x1b[2Jb", "evidence": "x\ny"}
    assert "\x1b" not in line(cells("", odd), 300)
    assert line(cells("", odd), 300).count("\n") == 0
