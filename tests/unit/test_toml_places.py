"""Every value of a TOML text stands where it is said to."""

import tomllib

import pytest
from hypothesis import given

from scopekeeper.mcp_configs.toml import parse
from tests.configs import toml_configs


@given(toml_configs())
def test_of_random_configurations(config):
    """Look every key up by its path in what tomllib reads, and read its own text alone."""
    text = config[1]
    data, entries = parse(text)
    for entry in entries:
        here = data
        for part in entry.full:
            here = here[-1][part] if isinstance(here, list) else here[part]
        value, member = entry.member.value, entry.member
        alone = tomllib.loads(f"x = {text[value.start : value.end]}")["x"]
        assert str(alone) == str(here).replace("Raw(text='nan')", "nan"), entry
        assert tomllib.loads(f"{text[member.name_start : member.key_end]} = 1") == {
            entry.full[-1]: 1
        }
        for item in value.items:
            assert tomllib.loads(f"x = {text[item.start : item.end]}")["x"] in alone


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ('a = """x"""""\nb = """""y"\\""""\nc = 1', ["a", "b", "c"]),
        ("a = '''it''s'''''\nb = ''\nc = ''''''\nd = \"\"\n", ["a", "b", "c", "d"]),
        ('\ufeffa = "# no"# b = 2\n', ["a"]),
        ('a."b.c" . d = 1979-05-27 07:32:00 # then\n', ["a.b.c.d"]),
        ("[a]\nb = [[1, 2], [ # c, ]\n 'x]', { y = true }, ], ]\n[[c]]\nd = 1\n[[c]]\nd = 2",
         ["a.b", "c.d", "c.d"]),
        ("t = { a.b = 1, c = { d = [ ] } }\r\n", ["t", "t.a.b", "t.c", "t.c.d"]),
    ],
)  # fmt: skip
def test_of_what_toml_has_in_corners(text, paths):
    found = parse(text)[1]
    assert [".".join(entry.full) for entry in found] == paths
    for entry in found:
        raw = text[entry.member.value.start : entry.member.value.end]
        assert tomllib.loads(f"x = {raw}")
