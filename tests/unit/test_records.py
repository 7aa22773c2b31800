"""Records come back as they were written, and what is not whole is said to be damaged."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.scope import records

KEYS = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ_", min_size=1, max_size=12).filter(lambda k: k != "V")
VALUES = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1)


@given(st.dictionaries(KEYS, VALUES))
def test_fields_come_back(fields):
    assert records.loads(records.dumps(fields)) == fields


def test_it_is_one_readable_line_a_value():
    raw = records.dumps({"SESSION": "a\nb\\n", "LANE": "main", "RUN": ""})
    assert raw == b"V=1\nSESSION=a\\nb\\\\n\nLANE=main\n"


def test_bytes_that_are_not_text_come_back():
    raw = records.dumps({"SESSION": "\udcff"})
    assert b"\xff" in raw
    assert records.loads(raw) == {"SESSION": "\udcff"}


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "version"),
        (b"V=2\nSESSION=x\n", "version 2"),
        (b"SESSION=x\n", "version"),
        (b"V=1\nSESSION", "not whole"),
        (b"V=1\nSESSION\n", "damaged"),
        (b"V=1\n=x\n", "damaged"),
        (b"V=1\nA=1\nA=2\n", "damaged"),
        (b"V=1\nA=\\q\n", "damaged"),
    ],
)
def test_a_damaged_record_says_so(raw, words):
    with pytest.raises(records.RecordError, match=words):
        records.loads(raw)


@given(st.binary(max_size=300))
def test_no_bytes_at_all_do_worse_than_say_so(raw):
    with contextlib.suppress(records.RecordError):
        records.loads(raw)


@given(st.dictionaries(KEYS, VALUES, min_size=1), st.data())
def test_a_record_cut_short_never_passes_for_a_whole_one(fields, data):
    raw = records.dumps(fields)
    cut = data.draw(st.integers(0, len(raw) - 1))
    with contextlib.suppress(records.RecordError):
        assert len(records.loads(raw[:cut])) < len(fields)
