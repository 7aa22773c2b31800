"""What YAML has beside JSON: anchors, merge keys, words without quotes, lists without brackets."""

import sys

import pytest
from ruamel.yaml import YAML

from scopekeeper.errors import ConfigError
from scopekeeper.mcp_configs.document import ParseError
from scopekeeper.mcp_configs.wrap import Launcher, Selection, look, unwrap, wrap
from tests.formats import FORMATS

ALL = Selection()
HERMES = FORMATS["hermes"]
GOOSE = FORMATS["goose"]
LAUNCHER = Launcher("scopekeeper", "/opt/sk/bin/scopekeeper", ("--memory-max", "2G"))
OTHER = Launcher("/new/scopekeeper", "/new/scopekeeper", ("--tasks-max", "7"))


def below(text, place="mcp_servers"):
    """Return lines as the servers of a file."""
    return f"{place}:\n" + "".join(f"  {line}\n" for line in text.splitlines())


def states(text, kind=HERMES):
    return {each.name: (each.state.value, each.detail) for each in look(text, kind, ALL).outcomes}


@pytest.mark.parametrize(
    ("server", "detail"),
    [
        ("a: {command: &c npx}", "its command is marked by an anchor (&c); write it on one line"),
        ("a: {command: !!str npx}", "its command is marked by a tag; write it on one line"),
        ("a:\n  command: |\n    npx", "its command is text of several lines; write it on one"),
        ("a:\n  command: long\n    command", "its command is text of several lines; write it"),
        ("z: &z [x]\na: {command: npx, args: *z}", "its args is an alias (*z); write it on one"),
        ("a: {command: npx, args: &y [x]}", "its args is marked by an anchor (&y); write it"),
        ("z: &z {command: npx}\na: *z", "it is an alias (*z); write it out"),
        ("z: &z {command: npx}\na: {<<: *z, env: {}}", "its command comes from another part of"),
        ("z: &z {args: [x]}\na: {<<: *z, command: npx}", "its args comes from another part of th"),
        ("a: &a {command: npx}\nz: *a", "another part of the file uses it too, by its anchor; "),
        ("a:\n  command: x,y\n  args: [z]", "its command has to be in quotes, since its args are"),
        ("a:\n  command: x\n  args:\n  -\n    z", "its args are not written as one item a line"),
        ("a: {command: npx, args: }", "its args are not an array"),
    ],
)  # fmt: skip
def test_what_cannot_be_moved_is_left_with_the_reason(server, detail):
    text = below(server)
    state, said = states(text)["a"]
    assert state == "unclear"
    assert said.startswith(detail)
    servers = YAML(typ="safe").load(wrap(text, HERMES, LAUNCHER, ALL).text)["mcp_servers"]
    assert servers["a"] == YAML(typ="safe").load(text)["mcp_servers"]["a"]


@pytest.mark.parametrize(
    "server",
    [
        "a: &a {command: npx}",  # nothing uses the anchor
        "a:\n  command: x,y\n  args:\n  - z",
        "a:\n  command: docker.io/x:1",
        "a:\n  command: 'x,y'\n  args: []",
        "env: &e {A: b}\na: {command: npx, env: *e, args: [x, &y z, *y]}",
        "a:\n  command:\n    npx\n  args: [\n    x, # why, [ not\n    y ]",
        '"a": {"command":"npx","args":["-y"]}',
        "a: {command: npx, args: [-y,],}",
    ],
)
def test_what_can_be_moved_comes_back_to_the_byte(server):
    text = below(server)
    for each in (text, text.replace("\n", "\r\n"), text.removesuffix("\n"), "\ufeff" + text):
        done = wrap(each, HERMES, LAUNCHER, ALL)
        assert {o.name: o.state.value for o in done.outcomes}["a"] == "wrapped"
        servers = YAML(typ="safe").load(done.text)["mcp_servers"]
        was = YAML(typ="safe").load(each)["mcp_servers"]["a"]
        head = ["run", f"--name{'=' if was.get('args') == [] else ' '}a", "--kind mcp",
                "--memory-max 2G", "--"]  # fmt: skip
        words = [word for part in head for word in part.split()]
        assert servers["a"]["args"] == [*words, was["command"], *was.get("args", [])]
        assert unwrap(done.text, HERMES, ALL).text == each
        updated = wrap(done.text, HERMES, OTHER, ALL, update=True)
        assert updated.text == wrap(each, HERMES, OTHER, ALL).text
        assert unwrap(updated.text, HERMES, ALL).text == each


def edited(before, edit, after, kind=HERMES):
    """Wrap, let a user edit, unwrap: what has to be left is after."""
    wrapped = wrap(below(before), kind, Launcher("scopekeeper", "scopekeeper"), ALL).text
    changed = wrapped.replace(*edit)
    assert changed != wrapped
    assert unwrap(changed, kind, ALL).text == below(after)


def test_what_a_user_changed_since_stays():
    two = "a:\n  command: npx\n  args:\n  - one\n  - two"
    edited(two, ("- one", "- one # mine"), two.replace("- one", "- one # mine"))
    edited(two, ("    - one\n", ""), two.replace("  - one\n", ""))
    edited(two, ("    - --kind\n", "    # why\n    - --kind\n"),
           two.replace("- one", "# why\n  - one"))  # fmt: skip
    edited(two, ("- --kind\n", "- --kind # why\n"), two.replace("- one", "# why\n  - one"))
    edited("a:\n  command: npx", ("- npx\n", "- npx\n      - new\n"),
           "a:\n  command: npx\n  args:\n    - new")  # fmt: skip
    edited("a:\n  command: npx", ("- --kind\n", "- --kind # why\n"), "a:\n  command: npx # why")
    edited("a:\n  command: npx\n  env: {}", ("args:\n", "args: # why\n"),
           "a:\n  command: npx # why\n  env: {}")  # fmt: skip
    edited("a: {command: npx}", ("npx]}", "npx]} # end"), "a: {command: npx} # end")


def test_a_list_that_is_the_first_key_of_a_server_stays_empty():
    text = "mcpServers:\n- args: [run, --, npx]\n  command: scopekeeper\n  name: a\n"
    done = unwrap(text, FORMATS["continue"], ALL)
    assert done.text == "mcpServers:\n- args: []\n  command: npx\n  name: a\n"


def test_servers_that_come_from_elsewhere_are_named():
    text = "base: &b {old: {command: x}}\nmcp_servers: {<<: *b, new: {command: y}}\n"
    done = wrap(text, HERMES, LAUNCHER, ALL)
    assert [outcome.name for outcome in done.outcomes] == ["new"]
    assert done.notes == (
        "mcp_servers: old: brought in by an alias, and not changed; write them out to wrap them",
    )
    (note,) = look("b: &b {old: {command: x}}\nmcp_servers: *b\n", HERMES, ALL).notes
    assert note.startswith("mcp_servers: old: brought in by an alias")


def test_a_word_that_some_reader_takes_for_something_else_gets_quotes():
    launcher = Launcher("scopekeeper", "scopekeeper", ("--session", "on", "--tasks-max", "7"))
    text = below("'no':\n  cmd: npx\n'1':\n  cmd: npx\n  args: [x]", "extensions")
    for is_1_1 in (True, False):
        reader = YAML(typ="safe", pure=True)
        reader.version = (1, 1) if is_1_1 else (1, 2)
        servers = reader.load(wrap(text, GOOSE, launcher, ALL).text)["extensions"]
        for name, server in servers.items():
            assert server["args"][:9] == ["run", "--name", name, "--kind", "mcp", "--session",
                                          "on", "--tasks-max", "7"]  # fmt: skip


def test_a_boolean_is_what_the_client_takes_for_one():
    server = "a: {command: npx, cmd: npx, enabled: no}"
    assert states(below(server))["a"][0] == "disabled"
    assert states(below(server, "extensions"), GOOSE)["a"][0] == "not wrapped"
    assert states(below(server.replace("no", "false"), "extensions"), GOOSE)["a"][0] == "disabled"


def test_a_number_in_args_is_no_string():
    (outcome,) = look(
        below("a: {command: x, args: [80, '81', 1.5, 2026-01-31]}"), HERMES, ALL
    ).outcomes
    assert outcome.odd_args == ("80", "1.5", "2026-01-31")


@pytest.mark.parametrize(
    ("text", "message", "line", "column"),
    [
        ("a: 1\na: 2\n", "duplicate key 'a'", 2, 1),
        ("a: [\n", "expected the node content, but found '<stream end>'", 2, 1),
        ("a: *b\n", "there is no anchor &b before this alias", 1, 4),
        ("a: 1\n---\nb: 2\n", "a second document begins here", 2, 1),
        ("a: \x01\n", "special characters are not allowed", 1, 4),
        ("? [a]\n: b\n", "a key that is a list or a mapping is not supported", 1, 3),
        ("mcp_servers: [1]\n", "mcp_servers is not an object", 1, 14),
        ("mcp_servers: x\n", "mcp_servers is not an object", 1, 14),
        ("- a\n", "the whole is not an object", 1, 1),
    ],
)
def test_what_its_client_could_not_read_is_refused_with_its_place(text, message, line, column):
    with pytest.raises(ParseError) as caught:
        look(text, HERMES, ALL)
    error = caught.value
    assert (error.message, error.line, error.column) == (message, line, column)


def test_without_the_library_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ruamel.yaml", None)
    with pytest.raises(ConfigError, match=r"ruamel\.yaml, is not installed; install it beside"):
        look(below("a: {command: x}"), HERMES, ALL)
    assert look("", HERMES, ALL).outcomes == ()
