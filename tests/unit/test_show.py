"""What is printed cannot harm the terminal it is printed to."""

from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.cli.show import safe


@given(st.text())
def test_shown_text_is_one_printable_line(text):
    assert all(char.isprintable() for char in safe(text))


def test_escape_sequences_are_shown_not_obeyed():
    assert safe("a\x1b[31mb\nc\udcff") == "a\\x1b[31mb\\nc\\xff"
