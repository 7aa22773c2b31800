"""A key is put into a configuration and taken out again, and nothing else of it changes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.mcp_configs import json5
from scopekeeper.mcp_configs.document import ParseError
from scopekeeper.mcp_configs.json5 import JSON5
from scopekeeper.mcp_configs.json_edit import exclude, include, put, take
from tests.configs import Writer, servers

PATH = ("plugins", "entries", "scopekeeper")
VALUE = {"enabled": True, "hooks": {"allowConversationAccess": True}, "config": {"program": "/é"}}
KEYS = st.sampled_from(["plugins", "entries", "scopekeeper", "mcp", "x"])
OBJECTS = st.recursive(
    st.dictionaries(KEYS, st.just("text"), max_size=2),
    lambda inner: st.dictionaries(KEYS, inner | st.just("text"), max_size=3),
    max_leaves=8,
)


@st.composite
def texts(draw):
    """A configuration in which plugins may be anything that they can be, and some text of it."""
    plugins = draw(
        st.one_of(
            st.none(),
            st.fixed_dictionaries({}, optional={
                "allow": st.just(["a", "b"]),
                "entries": st.dictionaries(st.sampled_from(["a", "b"]), OBJECTS, max_size=2),
            }),
        )
    )  # fmt: skip
    members = {"mcp": {"servers": draw(servers())}}
    if plugins is not None:
        members["plugins"] = plugins
    keys = draw(st.permutations(list(members)))
    whole = {key: members[key] for key in keys}
    return whole, Writer(draw, JSON5).value(whole)


@given(texts())
def test_what_was_put_stands_there_and_nothing_else_has_changed(made):
    whole, text = made
    expected = {**whole, "plugins": {**whole.get("plugins", {})}}
    expected["plugins"]["entries"] = {
        **expected["plugins"].get("entries", {}), "scopekeeper": VALUE,
    }  # fmt: skip
    done = put(text, JSON5, PATH, VALUE)
    assert json5.parse(done, JSON5).data == expected
    assert put(done, JSON5, PATH, VALUE) == done


@given(texts())
def test_taken_out_again_the_text_is_what_it_was(made):
    whole, text = made
    back = take(put(text, JSON5, PATH, VALUE), JSON5, PATH)
    holders = [whole.get("plugins"), whole.get("plugins", {}).get("entries")]
    if {} not in holders:
        assert back == text
    else:  # an empty object may go with what was in it
        left = {key: value for key, value in json5.parse(back, JSON5).data.items() if value != {}}
        assert left.get("mcp") == whole.get("mcp")


@given(texts(), st.text("abc\n", max_size=3))
def test_what_was_edited_since_stays(made, note):
    whole, text = made
    done = put(text, JSON5, PATH, VALUE)
    edited = done.replace('"enabled": true', f'"enabled": true /* {note} */', 1) + " "
    left = json5.parse(take(edited, JSON5, PATH), JSON5).data
    assert "scopekeeper" not in left.get("plugins", {}).get("entries", {})
    assert left["mcp"] == whole["mcp"]


@given(texts())
def test_an_item_comes_into_a_list_that_has_others_and_out_again(made):
    whole, text = made
    done = include(text, JSON5, ("plugins", "allow"), "scopekeeper")
    allowed = whole.get("plugins", {}).get("allow")
    if not allowed:
        assert done == text
        return
    now = json5.parse(done, JSON5).data["plugins"]["allow"]
    assert sorted(now) == sorted([*allowed, "scopekeeper"])
    assert exclude(done, JSON5, ("plugins", "allow"), "scopekeeper") == text


@pytest.mark.parametrize("text", ['{"plugins": ["a"]}', '{"plugins": {"entries": 1}}', "[]"])
def test_where_an_object_has_to_be_and_is_none_its_place_is_told(text):
    with pytest.raises(ParseError, match="is not an object"):
        put(text, JSON5, PATH, VALUE)


def test_it_is_written_as_its_neighbours_are():
    text = "{ // mine\n\tmcp: {\n\t\tservers: {},\n\t},\n}\n"
    assert put(text, JSON5, ("plugins", "x"), {"enabled": True}) == (
        '{ // mine\n\t"plugins": {\n\t\t"x": {\n\t\t\t"enabled": true\n\t\t}\n\t},'
        "\n\tmcp: {\n\t\tservers: {},\n\t},\n}\n"
    )
