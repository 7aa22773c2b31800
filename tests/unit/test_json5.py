"""JSON and its wider dialects are read as their specifications say, and refused where they say."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.mcp_configs.document import ParseError, Raw
from scopekeeper.mcp_configs.json5 import COMMENTED, JSON, JSON5, JSONC, parse

ALL = (JSON, COMMENTED, JSONC, JSON5)


def plain(data):
    """Return data with numbers as Python has them."""
    if isinstance(data, Raw):
        return json.loads(data.text)
    if isinstance(data, list):
        return [plain(item) for item in data]
    if isinstance(data, dict):
        return {key: plain(value) for key, value in data.items()}
    return data


def no_constants(name):
    raise ValueError(name)


def unique(pairs):
    if len(dict(pairs)) < len(pairs):
        raise ValueError("twice")
    return dict(pairs)


def oracle(text):
    """Return what the standard library reads, None in a list where it does not."""
    try:
        return [json.loads(text, parse_constant=no_constants, object_pairs_hook=unique)]
    except ValueError:
        return None


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)  # fmt: skip


@given(values, st.sampled_from([None, 0, 2, "\t"]), st.booleans())
def test_every_dialect_reads_json(value, indent, ascii_only):
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    for dialect in ALL:
        assert plain(parse(text, dialect).data) == value


@given(
    st.lists(
        st.sampled_from(
            ['"', "'", "\\", "\\u00e9", "\\ud83d\\ude00", "\\x41", "a", "{", "}", "[", "]", ",",
             ":", "1", "0", "-", "+", ".", "e", "true", "null", "NaN", " ", "\n", "\t", "/", "/*",
             "*/", "//", '"a"', '"b"', "\x00", "\u2028", "\ufeff", "é"]
        ),
        max_size=14,
    )
)  # fmt: skip
def test_strict_json_is_what_the_standard_library_takes(pieces):
    text = "".join(pieces)
    expected = None if text.startswith("\ufeff") else oracle(text)
    if text.startswith("\ufeff"):
        return  # a byte order mark is gone past here, and refused there
    try:
        read = [plain(parse(text, JSON).data)]
    except ParseError:
        read = None
    assert read == expected, text


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("{a: 1}", {"a": Raw("1")}),
        ("{$_ü1: 1, 'b c': 2, \\u0061b: 3}", {"$_ü1": Raw("1"), "b c": Raw("2"), "ab": Raw("3")}),
        ("{a\u200cb: null}", {"a\u200cb": None}),
        ("[1,]", [Raw("1")]),
        ("{a: [],}", {"a": []}),
        (r"'it\'s \"x\" \x41\u0042\v\0\q\/'", "it's \"x\" AB\v\0q/"),
        ("'one \\\ntwo \\\r\nthree\\\u2028'", "one two three"),
        ('"tab\there, \u2028 too"', "tab\there, \u2028 too"),
        ("'\\ud83d\\ude00'", "😀"),
        ("'\\ufeffx'", "\ufeffx"),
        ("0xBeEf", Raw("0xBeEf")),
        ("[.5, 5., +1, -Infinity, NaN, 1e-3, -0x1]",
         [Raw(x) for x in (".5", "5.", "+1", "-Infinity", "NaN", "1e-3", "-0x1")]),
        ("// c\n/* d\n*/ 1 // e", Raw("1")),
        ("//c\u20281", Raw("1")),
        ("\ufeff\v\f\xa0\u30001\u2029", Raw("1")),
    ],
)  # fmt: skip
def test_json5_reads_what_it_may_have(text, data):
    assert parse(text, JSON5).data == data


@pytest.mark.parametrize(
    ("text", "dialect", "place", "words"),
    [
        ('{\n  // c\n  "a": 1}', JSON, (2, 3), "a comment, which JSON does not allow"),
        ('{"a": 1,\n}', JSON, (1, 8), "a comma before }, which JSON does not allow"),
        ("[1,]", COMMENTED, (1, 3), "a comma before ], which JSON with comments"),
        ("{a: 1}", JSONC, (1, 2), "a key without quotes, which JSONC"),
        ('{"a": \'b\'}', JSONC, (1, 7), "a string in single quotes, which JSONC"),
        ('{"a": 0x10}', JSON, (1, 7), "a number of this form, which JSON"),
        ('{"a": +1}', JSON, (1, 7), "a number of this form"),
        ('{"a": 01}', JSON, (1, 7), "a number of this form"),
        ('"a\tb"', JSON, (1, 3), "the character '\\t' in a string, which JSON"),
        ('"\\q"', JSON, (1, 2), "the escape \\q, which JSON"),
        ('{"a": 1,\r\n "b": 2,\r\n "a": 3}', JSON, (3, 2), "duplicate key 'a'"),
        ("{a: 1, 'a': 2}", JSON5, (1, 8), "duplicate key 'a'"),
        ('{"a": "b\n"}', JSON, (1, 9), "a line ends inside a string"),
        ('{"a": "b', JSON, (1, 7), "the string has no end"),
        ("'\\1'", JSON5, (1, 2), "the escape \\1, which JSON5"),
        ("'\\x4'", JSON5, (1, 4), "\\x without its 2 digits"),
        ("{a\u2028: tru}", JSON5, (2, 3), "'t' where a value is expected"),
        ("{1a: 1}", JSON5, (1, 2), "'1' where a key or } is expected"),
        ("[1 2]", JSON5, (1, 4), "'2' where , or ] is expected"),
        ("{a 1}", JSON5, (1, 4), "no : after the key"),
        ("{a: 1", JSON5, (1, 6), "the file ends where , or } is expected"),
        ("{", JSON5, (1, 2), "the file ends where a key"),
        ("", JSON5, (1, 1), "the file ends where a value is expected"),
        ("1 2", JSON5, (1, 3), "unexpected text after the end of the JSON5"),
        ("1 /* x", JSON5, (1, 3), "the comment has no end"),
        ("\ufeff{]", JSON, (1, 2), "']' where a key or } is expected"),
        ("[" * 5000, JSON5, (1, 202), "nested deeper than 200 levels"),
    ],
)  # fmt: skip
def test_what_it_may_not_have_is_told_with_its_place(text, dialect, place, words):
    with pytest.raises(ParseError) as told:
        parse(text, dialect)
    assert told.value.message.startswith(words)
    assert (told.value.line, told.value.column) == place


def check_places(text, value):
    """Every value's own text, read alone, means what the value means."""
    assert parse(text[value.start : value.end], JSON5).data == value.data
    for item, comma in zip(value.items, value.commas, strict=True):
        assert comma == -1 or text[comma] == ","
        check_places(text, item)
    for member in value.members:
        assert parse(f"{{{text[member.start : member.key_end]}: 1}}", JSON5).data == {
            member.key[0]: Raw("1")
        }
        assert member.comma == -1 or text[member.comma] == ","
        check_places(text, member.value)


@given(values, st.sampled_from([None, 3]))
def test_a_value_stands_where_it_is_said_to(value, indent):
    text = "// é\n" + json.dumps({"x": value}, indent=indent, ensure_ascii=False) + "\n/* end */"
    check_places(text, parse(text, JSON5))
