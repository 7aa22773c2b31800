"""What a terminal was given, as lines of text."""

import itertools
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scopekeeper.exec.text import LONGEST, LONGEST_SEQUENCE, Plain


def plain(data, *cuts):
    text = Plain()
    edges = [0, *sorted(cuts), len(data)]
    pieces = [text.feed(data[a:b]) for a, b in itertools.pairwise(edges)]
    return "".join(pieces) + text.finish()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"one\r\ntwo\nthree\r\r\nfour", "one\ntwo\nthree\nfour"),
        (b"a\tb\r\n", "a\tb\n"),
        (b"\a\0a\x0b\x0c\x7fb\x0e\x0f\n", "ab\n"),
        ("f\u00fcnf \u20ac \U0001f600\n".encode(), "f\u00fcnf \u20ac \U0001f600\n"),
        (b"a\xffb\xc3\n\xe2\x82", "a\ufffdb\ufffd\n\ufffd"),
    ],
)
def test_text_stays_and_other_control_characters_go(data, text):
    assert plain(data) == text


@pytest.mark.parametrize(
    "sequence",
    [b"\x1b[1;31m", b"\x1b[m", b"\x1b[?2004h", b"\x1b[>4;2m", b"\x1b[2 q", b"\x1b[!p", b"\x1b[2J",
     b"\x1b[10;20H", b"\x1b]0;title\a", b"\x1b]0;title\x1b\\", b"\x1b]8;;http://a/\x1b\\",
     b"\x1b]0;f\xc3\xbcnf\a", b"\x1bP1$r0m\x1b\\", b"\x1bPq#0\a~\x1b\\", b"\x1b_Gf=1\x1b\\",
     b"\x1b^private\x1b\\", b"\x1bXstring\x1b\\", b"\x1bktitle\x1b\\", b"\x1b7", b"\x1b8", b"\x1b=",
     b"\x1bM", b"\x1bc", b"\x1b(B", b"\x1b)0", b"\x1b%G", b"\x1b#8", b"\x1b F", b"\x1b\x1b[m",
     b"\x1b[12\x18", b"\x1b]0;ti\x1a", b"\x1b[1\x1b[m", b"\x1b]0;cut\x1b[0m", b"\x1b[1\a;2m"],
)  # fmt: skip
def test_sequences_are_taken_out(sequence):
    assert plain(b"be" + sequence + b"hind\r\n") == "behind\n"
    assert plain(sequence * 3) == ""


def test_c1_is_no_control_in_utf_8_but_no_text_either():
    assert plain("a\u009b31mb\n".encode()) == "a31mb\n"
    assert plain(b"a\x9b31mb\n") == "a\ufffd31mb\n"


def test_a_character_that_no_sequence_can_have_ends_it():
    assert plain("\x1b[1\u20ac\n".encode()) == "\u20ac\n"
    assert plain("\x1b\u20ac\n".encode()) == "\u20ac\n"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b" 10%\r 20%\r100%\r\n", "100%\n"),
        (b"downloading\rdone\r\n", "doneloading\n"),
        (b"downloading\rdone\x1b[K\r\n", "done\n"),
        (b"downloading\r\x1b[0Kdone\r\n", "done\n"),
        (b"downloading\x1b[2K\rdone\n", "done\n"),
        (b"downloading\x1b[2K\x1b[1Gdone\n", "done\n"),
        (b"abcdef\x1b[3D\x1b[1K\n", "    ef\n"),
        (b"abc\b\b12\n", "a12\n"),
        (b"\b\b\bab\n", "ab\n"),
        (b"a\x1b[3Cb\x1b[2Dc\n", "a  cb\n"),
        (b"\x1b[5Gx\n", "    x\n"),
        (b"abc\x1b[2;5K\n", "abc\n"),
        (b"half\rno", "nolf"),
        (b"\x1b[31mred\x1b[m\r\nplain\n\x1b[1m\x1b[4mx\x1b[m\n", "red\nplain\nx\n"),
        (b"spinner |\b/\b-\b\\\b \n", "spinner  \n"),
        ("\u00fcber\r\u00e4\n".encode(), "\u00e4ber\n"),
    ],
)
def test_what_is_written_over_itself_leaves_its_last_state(data, text):
    assert plain(data) == text


STREAMS = st.lists(
    st.sampled_from([
        b"\x1b", b"[", b"]", b"0;t", b"\a", b"\\", b"\r", b"\n", b"\r\n", b"\b", b"K", b"2K", b"G",
        b"5", b";", b"\x18", b"(", b"B", b"P", b"\t", b"text", b"more text", b"\xff", b"\xc3",
        "\u00fc\u20ac\U0001f600".encode(), b"\xe2\x82", b"\x1b[K", b"\x1b]0;", b"\x1b[31m",
        b"\x1b[999C", b"x" * (LONGEST - 3), b"y" * LONGEST_SEQUENCE, b"\x1b[" + b"1" * 4090,
    ])
    | st.binary(max_size=8),
    max_size=30,
).map(b"".join)  # fmt: skip


@settings(deadline=None)
@given(STREAMS, st.lists(st.floats(0, 1), max_size=6))
@example(b"\x1b]" + b"y" * (LONGEST_SEQUENCE + 9) + b"\r\n", [0.5, 0.9997])
@example(b"x" * (LONGEST + 1) + b"\rover\r\n", [0.3, 0.9999])
def test_cut_anywhere_it_is_the_same(data, where):
    assert plain(data, *(int(each * len(data)) for each in where)) == plain(data)


@settings(deadline=None)
@given(STREAMS.filter(lambda data: len(data) < 500))
def test_fed_byte_by_byte_it_is_the_same(data):
    assert plain(data, *range(len(data))) == plain(data)


@settings(deadline=None)
@given(STREAMS)
def test_nothing_that_a_terminal_obeys_comes_out(data):
    assert all(char in "\t\n" or char.isprintable() or char > "\xa0" or char == "\xa0"
               for char in plain(data))  # fmt: skip


@settings(deadline=None)
@given(st.text(st.characters(blacklist_categories=["Cc", "Cs"], whitelist_characters="\t\n")))
def test_plain_text_comes_out_as_it_went_in(text):
    assert plain(text.encode()) == text
    assert plain(text.replace("\n", "\r\n").encode()) == text


def test_a_long_line_comes_out_in_parts():
    text = Plain()
    assert text.feed(b"x" * (LONGEST + 5)) == "x" * LONGEST
    assert text.feed(b"\ry\r\n") == "yxxxx\n"


def test_a_sequence_without_an_end_is_given_up():
    assert plain(b"\x1b]" + b"y" * LONGEST_SEQUENCE + b"text\n") == "yytext\n"
    assert plain(b"\x1b[" + b"1" * LONGEST_SEQUENCE + b"text\n") == "11text\n"


@pytest.mark.parametrize(
    "piece", [b"x", b"\x1b]", b"\x1b[1", b"\x1b[999C", b"\r\x1b[511Cx\r", b"\t", b"\xe2\x82\xac"]
)
def test_memory_is_bounded(piece):
    text = Plain()
    data = piece * (70_000 // len(piece))
    text.feed(data)
    tracemalloc.start()
    try:
        for _ in range(3):
            text.feed(data)
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 8 << 20  # a character by itself takes 76 bytes
    assert len(text.finish()) <= LONGEST


def test_a_few_bytes_make_no_long_line():
    assert len(plain(b"\x1b[60000Gx\n")) < 1000
    assert len(plain(b"\x1b[500C" * 50 + b"x\n")) < 1000


def test_a_character_of_which_more_may_come_is_not_shown_broken():
    text = Plain()
    assert text.feed("one\ntwo \u20ac".encode()[:-1]) == "one\n"
    assert text.finish(final=False) == "two "
