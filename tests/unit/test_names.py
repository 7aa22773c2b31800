"""Session, lane and run survive the way into a unit name and back."""

import re
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.scope import names

# whatever execve can carry: any text but NUL, and bytes that are not UTF-8
FIELD = st.text(
    st.one_of(
        st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"),
        st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF),
    ),
    min_size=1,
    max_size=512,
).map(lambda text: text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape"))
UNIT = re.compile(r"[a-zA-Z0-9:_.\\-]+\.scope")  # systemd.unit(5), less @ for templates


@given(FIELD, FIELD, st.one_of(st.just(""), FIELD))
def test_a_name_is_a_valid_unit_name_and_reads_back(session, lane, run):
    name = names.unit_name(session, lane, run)
    assert UNIT.fullmatch(name)
    assert len(name) <= 255
    parsed = names.parse_unit(name)
    assert parsed is not None
    if parsed[3]:
        assert parsed == (session, lane, run, True)
    else:
        assert session.startswith(parsed[0])
        assert lane.startswith(parsed[1])
        assert run.startswith(parsed[2])


@given(*[FIELD] * 4)
def test_different_identities_have_different_names(session, lane, other_session, other_lane):
    same = (session, lane) == (other_session, other_lane)
    assert (names.unit_name(session, lane) == names.unit_name(other_session, other_lane)) is same


@given(st.integers(200, 512), st.sampled_from("aä€😀-/"))
def test_a_cut_field_ends_at_a_whole_character(length, char):
    parsed = names.parse_unit(names.unit_name(char * length, "main"))
    assert parsed is not None
    assert set(parsed[0]) <= {char}


# continuations of characters that never began: bytes that are not UTF-8
HALVES = st.text(st.sampled_from("a-\udc80\udcbf\udce2\udcf0é€😀"), min_size=40, max_size=512)


@given(HALVES, HALVES, HALVES)
def test_a_cut_name_reads_back_whatever_it_is_cut_in(session, lane, run):
    texts = [each.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
             for each in (session, lane, run)]  # fmt: skip
    parsed = names.parse_unit(names.unit_name(*texts))
    assert parsed is not None
    assert all(whole.encode("utf-8", "surrogateescape").startswith(
               cut.encode("utf-8", "surrogateescape"))
               for whole, cut in zip(texts, parsed[:3], strict=True))  # fmt: skip
    leaf = names.leaf_name(texts[0], "01234567")
    assert names.parse_leaf(leaf) is not None


@pytest.mark.parametrize("bytes_of_one", ["\udc80", "a-\udc80", "a\udc80"])
def test_a_name_of_half_characters_alone_can_be_cut(bytes_of_one):
    name = names.unit_name(bytes_of_one * 200, "main")
    assert names.parse_unit(name)[0]
    assert names.parse_leaf(names.leaf_name(bytes_of_one * 80, "01234567"))[0]


def test_long_names_that_begin_alike_stay_apart():
    one, two = (names.unit_name("x" * 500 + end, "main") for end in "ab")
    assert one != two
    assert names.parse_unit(one)[3] is False


@pytest.mark.parametrize(
    "text", ["agent:spark:main", "a b", "ä-ö", "a/b", "..", ".x", "a\nb", "%i"]
)
def test_escape_is_that_of_systemd(text):
    try:
        told = subprocess.run(["systemd-escape", "--", text], capture_output=True, text=True)
    except FileNotFoundError:
        expected = {"agent:spark:main": "agent:spark:main", "ä-ö": r"\xc3\xa4\x2d\xc3\xb6"}
        assert names.escape(text) == expected.get(text, names.escape(text))
        return
    # systemd-escape makes a path's slashes into the separator; a field must not have one
    assert names.escape(text) == told.stdout.rstrip("\n").replace("a-b", r"a\x2fb")


@pytest.mark.parametrize(
    "name",
    ["scopekeeper-a.scope", "scopekeeper-a-b-c-d.scope", "scopekeeper--b.scope", "a-b.scope",
     "scopekeeper-a-b.service", r"scopekeeper-a\xzz-b.scope", r"scopekeeper-a\-b.scope"],
)  # fmt: skip
def test_names_of_others_are_not_ours(name):
    assert names.parse_unit(name) is None


@given(FIELD, st.integers(0, 2**32 - 1))
def test_a_leaf_reads_back(member, number):
    leaf = names.leaf_name(member, f"{number:08x}")
    assert len(leaf) <= 255
    assert "/" not in leaf
    parsed = names.parse_leaf(leaf)
    assert parsed is not None
    assert member.startswith(parsed[0])
    assert parsed[1] == f"{number:08x}"


@pytest.mark.parametrize("name", ["m-x", "m-x.123", "x.12345678", "m-x.zzzzzzzz", "cgroup.procs"])
def test_other_folders_are_no_leaves(name):
    assert names.parse_leaf(name) is None


@pytest.mark.parametrize(
    ("value", "words"), [("", "is empty"), ("x" * 513, "513"), ("a\0b", "NUL")]
)
def test_what_cannot_be_a_name_is_refused_in_words(value, words):
    with pytest.raises(ValueError, match=words):
        names.check("session", value, names.SESSION_MAX)


def test_the_class_of_a_lane():
    assert names.lane_class("nested:agent:spark:main") == "nested"
    assert names.lane_class("main") == "main"


FOLDER = st.one_of(
    st.binary(max_size=255).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    st.text("abc-.\\x:0f9_", max_size=40).map(lambda text: f"scopekeeper-{text}.scope"),
    st.text("abc-.\\x:0f9_", max_size=40).map(lambda text: f"m-{text}.01234567"),
)


@given(FOLDER)
def test_whatever_a_folder_is_called_it_is_not_ours_or_what_it_says_has_a_name(name):
    unit = names.parse_unit(name)
    if unit is not None:
        assert names.parse_unit(names.unit_name(*unit[:3]))[:3] == unit[:3]
    leaf = names.parse_leaf(name)
    if leaf is not None:
        assert names.parse_leaf(names.leaf_name(*leaf)) == leaf
