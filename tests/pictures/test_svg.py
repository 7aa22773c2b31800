"""A film becomes a picture that any browser can show, with the screens that a terminal had."""

import re
from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from tests.pictures.__main__ import FOLDER, PICTURE
from tests.pictures.record import SCENE
from tests.pictures.svg import draw, frames

SVG = "{http://www.w3.org/2000/svg}"


def screens(picture: str) -> list[list[str]]:
    """Return the lines of each frame, without the space between runs."""
    root = ET.fromstring(picture)
    lines = {f"#{each.get('id')}": "".join(each.itertext())
             for each in root.findall(f"{SVG}defs/{SVG}g")}  # fmt: skip
    (film,) = [each for each in root.iter(f"{SVG}g") if each.get("id") == "film"]
    return [[lines[use.get("href", "")] for use in frame] for frame in film]


def test_each_frame_has_what_the_terminal_showed_then() -> None:
    events = [(0.0, "$ "), (1.0, "one"), (2.0, "\r\nout"), (3.0, "\x1b[2J\x1b[H"), (4.0, "last")]
    assert screens(draw(events, 20, 3, "t")) == [["$"], ["$ one"], ["$ one", "out"], [], ["last"]]


def test_what_is_replaced_at_once_is_not_drawn_and_a_long_wait_is_cut() -> None:
    found = frames([(0.0, "a"), (5.0, "b"), (5.01, "c"), (6.0, "d"), (99.0, "")], 20, 3)
    texts = ["".join(run.text for line in frame.lines for run in line) for frame in found]
    assert texts == ["a", "abc", "abcd"]
    assert [round(frame.at, 2) for frame in found] == [0, 1.3, 2.3]


# pyte takes a superscript in a control sequence for a digit, and fails
TEXTS = st.text(st.characters(exclude_categories=["No", "Cs"]), max_size=30)
EVENTS = st.lists(st.tuples(st.floats(0, 10), TEXTS), min_size=1, max_size=6)


@given(EVENTS, st.text(max_size=20))
def test_any_output_is_a_well_formed_picture(events: list[tuple[float, str]], title: str) -> None:
    picture = draw(sorted(events), 10, 3, title)
    ET.fromstring(picture)
    assert "<script" not in picture


def test_the_picture_of_the_readme_shows_the_scene_to_its_end() -> None:
    shown = screens(PICTURE.read_text(encoding="utf-8"))
    for command in SCENE:
        assert any(command in line for line in shown[-1]), command
    everything = "\n".join(line for screen in shown for line in screen)
    assert re.search(r"orphan\s*terminated\s*process \d+ has ended", everything)


def test_what_is_reversed_has_a_colour_behind_it() -> None:
    picture = draw([(0.0, "a \x1b[7m b \x1b[0m c")], 10, 1, "t")
    (behind,) = [each for each in ET.fromstring(picture).iter(f"{SVG}rect") if each.get("x")]
    assert behind.get("x") == "16.8"
    assert screens(picture) == [["a b c"]]


def test_the_picture_of_top_shows_scopes_members_and_that_a_stop_asks() -> None:
    shown = ["\n".join(each) for each in screens((FOLDER / "top.svg").read_text(encoding="utf-8"))]
    for words in ("LANE", "MEMBER", "stop it? y: yes", "nothing was stopped", "back; in the list"):
        assert any(words in each for each in shown), words
