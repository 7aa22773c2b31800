"""What is printed cannot harm the terminal it is printed to."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.safe_text import safe, safe_lines

OBEYED = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories: control, format, surrogate, line and paragraph separator."""
JOINERS = "\u200c\u200d"


def obeyed(text):
    """Return the characters that a terminal may act on."""
    return [c for c in text if unicodedata.category(c) in OBEYED and c not in JOINERS]


@given(st.text())
def test_shown_text_is_one_line_without_control_characters(text):
    assert not obeyed(safe(text))


@given(st.text(st.sampled_from("ab\x1b\r\n\t\u202e\u2066\udcff\x9b\u3000")))
def test_lines_keep_their_ends_and_tabs_and_nothing_else(text):
    shown = safe_lines(text)
    assert not obeyed(shown.replace("\r\n", "").replace("\n", "").replace("\t", ""))
    assert (shown.count("\n"), shown.count("\t")) == (text.count("\n"), text.count("\t"))


def test_escape_sequences_are_shown_not_obeyed():
    assert safe("a\x1b[31mb\nc\udcff") == "a\\x1b[31mb\\nc\\xff"
    assert safe_lines("one\x1b]0;title\x07\r\n\ttwo\rfake") == (
        "one\\x1b]0;title\\x07\r\n\ttwo\\rfake"
    )


def test_a_surrogate_that_stands_for_no_byte_is_escaped():
    assert safe("a\ud800\x1b") == "a\\ud800\\x1b"


def test_marks_of_bidirectional_text_are_shown():
    assert safe("user\u202etxt.exe\u2066") == "user\\u202etxt.exe\\u2066"


def test_text_that_people_write_stays_as_it_is():
    for text in ("naïve", "日本\u3000語", "👩\u200d💻", "क\u200dष", "1\u00a0000", "\ue0b0"):
        assert safe(text) == text
