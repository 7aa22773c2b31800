"""Wrapping changes two values of a server and no other byte, and is undone to the byte."""

import contextlib
import json
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from scopekeeper.launch.arguments import parse as parse_run
from scopekeeper.mcp_configs.document import ParseError
from scopekeeper.mcp_configs.json5 import JSON5, parse
from scopekeeper.mcp_configs.servers import ServerState
from scopekeeper.mcp_configs.wrap import Launcher, Selection, look, unwrap, wrap
from tests.configs import COMMANDS, SESSION, json_configs, toml_configs, yaml_configs
from tests.formats import FORMATS

SAMPLES = Path(__file__).parents[1] / "clients"
ALL = Selection()
LAUNCHER = Launcher("scopekeeper", "/opt/sk/bin/scopekeeper", ("--memory-max", "2G"))
OTHER = Launcher("/new/scopekeeper", "/new/scopekeeper", ("--tasks-max", "7"))
DESKTOP = FORMATS["claude-desktop"]
CODEX = FORMATS["codex"]
LONE_LINE_FEED = re.compile(r"(?<!\r)\n")


def words(name, command, args, options=("--memory-max", "2G"), kind=("--kind", "mcp")):
    """Return what a wrapped server has to have in its args."""
    name = re.sub(r"[^ -~é]|\$", "_", re.sub(r"^~", "_", name))
    name = [f"--name={name}"] if args == [] else ["--name", name]
    return ["run", *name, *kind, *options, "--", command, *(args or [])]


def expected(servers, kind=DESKTOP):
    """Return the servers as they have to be when they are wrapped."""
    return {
        name: wrapped_server(name, server, kind) if kind.command in server else server
        for name, server in servers.items()
    }


def wrapped_server(name, server, kind):
    own_path = isinstance(server.get("env"), dict) and "PATH" in server["env"]
    program = LAUNCHER.absolute if own_path else LAUNCHER.program
    command = server[kind.command]
    if kind.command_is_list:
        return {**server, "command": [program, *words(name, command[0], command[1:] or None)]}
    if isinstance(command, dict):
        args = words(name, command["path"], command.get("args"))
        return {**server, "command": {**command, "path": program, "args": args}}
    made = {**server, kind.command: program, "args": words(name, command, server.get("args"))}
    had = server.get("env_vars", [])
    if kind is CODEX and isinstance(had, list) and not set(had) & set(SESSION):
        made["env_vars"] = [*had, *SESSION]
        made["args"] = words(name, command, server.get("args"), kind=["--kind=mcp"])
    return made


def undone_and_idempotent(kind, text):
    wrapped = wrap(text, kind, LAUNCHER, ALL)
    assert unwrap(wrapped.text, kind, ALL).text == text
    assert wrap(wrapped.text, kind, Launcher("other", "other"), ALL).text == wrapped.text
    updated = wrap(wrapped.text, kind, OTHER, ALL, update=True)
    assert updated.text == wrap(text, kind, OTHER, ALL).text
    assert unwrap(updated.text, kind, ALL).text == text
    if "\r\n" in text and not LONE_LINE_FEED.search(text):
        assert not LONE_LINE_FEED.search(wrapped.text)
    return wrapped


@given(json_configs())
def test_json_of_every_dialect_is_wrapped_and_unwrapped_to_the_byte(config):
    kind, text, value = config
    wrapped = undone_and_idempotent(kind, text)
    for place in kind.places:
        inner = value
        for key in place[:-1]:
            inner = inner.get("/home/ann" if key == "*" else key, {})
        if place[-1] in inner:
            inner[place[-1]] = expected(inner[place[-1]], kind)
    assert readable(parse(wrapped.text, kind.dialect).data) == readable(value)
    comment = re.compile(r"c[0-9]+, \] \} \" '")
    assert comment.findall(wrapped.text) == comment.findall(text)


def readable(data):
    """Return data as JSON; a number is what it is written as."""
    return json.dumps(data, default=lambda raw: json.loads(raw.text), sort_keys=True)


@given(toml_configs())
def test_toml_is_wrapped_and_unwrapped_to_the_byte(config):
    kind, text, servers = config
    mark = text.startswith("\ufeff")
    # as the strategy meant it
    assert tomllib.loads(text[mark:]).get("mcp_servers", {}) == servers
    wrapped = undone_and_idempotent(kind, text)
    want = expected(servers, CODEX)
    assert tomllib.loads(wrapped.text[mark:]).get("mcp_servers", {}) == want
    comment = re.compile('# it\'s "c" ] }|# top')
    assert comment.findall(wrapped.text) == comment.findall(text)


@given(yaml_configs())
def test_yaml_is_wrapped_and_unwrapped_to_the_byte(config):
    kind, text, servers = config
    assert loaded(text, kind) == servers, "the strategy wrote something else"
    wrapped = undone_and_idempotent(kind, text)
    want = expected(dict(servers), kind)
    assert loaded(wrapped.text, kind) == (list(want.items()) if kind.name == "continue" else want)
    comment = re.compile("# c[^\\r\\n]*")
    assert comment.findall(text) == comment.findall(wrapped.text)


def loaded(text, kind):
    """Return the servers as a client gets them."""
    data = YAML(typ="safe", pure=True).load(text)
    assert data["again"] == {"command": "not this", "args": ["a"]}
    servers = data[kind.places[0][0]]
    if kind.name == "continue":
        return [(each.pop("name"), each) for each in servers or []]
    return servers


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.tuples(COMMANDS, st.none() | st.just([])
                       | st.lists(st.text(max_size=4), min_size=1, max_size=3)), max_size=3),
       st.sampled_from([None, 1, 4]))  # fmt: skip
def test_a_client_that_writes_its_file_anew_in_between_is_undone_in_meaning(servers, indent):
    value = {"mcpServers": {
        name: {"command": command, **({} if args is None else {"args": args})}
        for name, (command, args) in servers.items()
    }}  # fmt: skip
    wrapped = wrap(json.dumps(value), DESKTOP, LAUNCHER, ALL).text
    anew = json.dumps(json.loads(wrapped), indent=indent, ensure_ascii=False, sort_keys=True)
    assert json.loads(unwrap(anew, DESKTOP, ALL).text) == value


@given(json_configs(), st.lists(st.sampled_from(["//", "/*", "*/", "{", "'", "\\", ",", "a"])),
       st.integers(0))  # fmt: skip
def test_what_is_broken_is_refused_or_undone_all_the_same(config, pieces, at):
    kind, text, _ = config
    at %= len(text) + 1
    broken = text[:at] + "".join(pieces) + text[at:]
    with contextlib.suppress(ParseError):
        undone_and_idempotent(kind, broken)


YAML_PIECES = (
    *("#", " #", "- ", ": ", "{", "}", "[", "]", "'", '"', ",", "\n", "\n  ", "\n- ", "?", "\t"),
    *("&a ", "*a", "*top", "<<: *top", "!t ", "|", "a", "%"),
)


@given(yaml_configs(), st.lists(st.sampled_from(YAML_PIECES), min_size=1, max_size=3),
       st.integers(0))  # fmt: skip
def test_broken_yaml_is_refused_or_undone_all_the_same(config, pieces, at):
    kind, text, _ = config
    at %= len(text) + 1
    broken = text[:at] + "".join(pieces) + text[at:]
    with contextlib.suppress(ParseError):
        undone_and_idempotent(kind, broken)


KINDS = {
    "claude-project": "claude-code", "opencode-v2": "opencode", "vscode-workspace": "vscode",
    "devcontainer": "vscode",
}  # fmt: skip
NAMES = sorted(
    path.stem for path in SAMPLES.iterdir() if path.is_file() and ".wrapped" not in path.name
)


def sample(stem):
    (path,) = [path for path in SAMPLES.iterdir() if path.stem == stem and path.is_file()]
    wrapped = path.with_suffix(f".wrapped{path.suffix}")
    return FORMATS[KINDS.get(stem, stem)], path.read_text(), wrapped.read_text()


@pytest.mark.parametrize("stem", NAMES)
def test_a_real_file_becomes_what_is_written_beside_it(stem):
    kind, text, wrapped = sample(stem)
    assert undone_and_idempotent(kind, text).text == wrapped
    windows = text.replace("\n", "\r\n")
    assert undone_and_idempotent(kind, windows).text == wrapped.replace("\n", "\r\n")


def test_a_file_without_blanks_gets_none():
    text = '{"mcpServers":{"a":{"command":"x"},"b":{"command":"y","args":["z"]}}}'
    done = undone_and_idempotent(DESKTOP, text)
    assert done.text == json.dumps(json.loads(done.text), separators=(",", ":"))


def test_there_is_a_real_file_of_every_client():
    assert {KINDS.get(stem, stem) for stem in NAMES} == set(FORMATS)


@pytest.mark.parametrize("stem", NAMES)
def test_what_a_client_then_starts_is_run_with_the_same_command(stem):
    """Read by others' parsers where there are any."""
    kind, text, wrapped = sample(stem)

    def started(text):
        found = {}
        for place in kind.places:
            inner = [parsed(text, kind)]
            for key in place:
                inner = [
                    each for table in inner
                    for each in (table.values() if key == "*" else [table.get(key, {})])
                ]  # fmt: skip
            for at, table in enumerate(inner):
                servers = table.items() if isinstance(table, dict) else [
                    (each.get("name"), each) for each in table]  # fmt: skip
                found |= {(*place, at, name): command_of(server, kind) for name, server in servers}
        return {server: command for server, command in found.items() if command}

    before, after = started(text), started(wrapped)
    assert before.keys() == after.keys()
    assert before
    for server, (program, *args) in after.items():
        assert program.endswith("scopekeeper")
        assert args[0] == "run"
        options, command = parse_run(args[1:])
        assert options == {"name": server[-1], "kind": "mcp", "memory_max": "2G"}
        assert command == before[server]


def parsed(text, kind):
    if kind is CODEX:
        return tomllib.loads(text)
    if kind.name in ("hermes", "goose", "continue", "librechat"):
        return YAML(typ="safe", pure=True).load(text)
    return parse(text, JSON5).data


def command_of(server, kind):
    """Return what a client starts for a server; None if nothing."""
    if not isinstance(server, dict) or server.get("disabled") or server.get("enabled") in (
        False, "no"
    ):  # fmt: skip
        return None
    command = server.get(kind.command)
    if isinstance(command, dict):
        command, server = command.get("path"), command
    return command if isinstance(command, list) or command is None else [
        command, *server.get("args", [])]  # fmt: skip


def states(text, kind=DESKTOP, chosen=ALL):
    return {
        outcome.name: (outcome.state, outcome.detail)
        for outcome in look(text, kind, chosen).outcomes
    }


def test_what_is_not_wrapped_is_said_with_the_reason():
    text = json.dumps({"mcpServers": {
        "typed": {"type": "http", "url": "u", "command": "x"}, "sse": {"transport": "SSE"},
        "url": {"url": "u"}, "gemini": {"httpUrl": "u"}, "bare": {"env": {}}, "text": "npx",
        "list": {"command": ["npx"]}, "args": {"command": "x", "args": "-y"},
        "empty": {"command": ""}, "home": {"command": "~/x"},
        "off": {"command": "x", "disabled": True}, "off too": {"command": "x", "enabled": False},
        "done": {"command": "/usr/bin/scopekeeper", "args": ["run", "x"]},
        "docker": {"command": "docker", "args": ["run", "x"]},
        "other": {"command": "scopekeeper", "args": ["ls"]},
    }})  # fmt: skip
    assert states(text) == {
        "typed": (ServerState.REMOTE, "its type is http"),
        "sse": (ServerState.REMOTE, "its transport is SSE"),
        "url": (ServerState.REMOTE, "it has url"),
        "gemini": (ServerState.REMOTE, "it has httpUrl"),
        "bare": (ServerState.NO_COMMAND, ""),
        "text": (ServerState.UNCLEAR, "it is not an object"),
        "list": (ServerState.UNCLEAR, "its command is not a string"),
        "args": (ServerState.UNCLEAR, "its args are not an array"),
        "empty": (ServerState.UNCLEAR, "its command is empty"),
        "home": (
            ServerState.UNCLEAR,
            "its client may not expand ~ in args; write the whole path",
        ),
        "off": (ServerState.DISABLED, ""),
        "off too": (ServerState.DISABLED, ""),
        "done": (ServerState.WRAPPED, ""),
        "docker": (ServerState.NOT_WRAPPED, ""),
        "other": (ServerState.NOT_WRAPPED, ""),
    }
    wrapped = json.loads(wrap(text, DESKTOP, LAUNCHER, ALL).text)["mcpServers"]
    changed = [name for name in wrapped if wrapped[name] != json.loads(text)["mcpServers"][name]]
    assert changed == ["docker", "other"]


def test_only_and_except_choose_and_a_disabled_one_is_wrapped_when_it_is_named():
    text = json.dumps({"mcpServers": {
        "a": {"command": "a"}, "b": {"command": "b"}, "off": {"command": "c", "disabled": True}
    }})  # fmt: skip

    def changed(chosen):
        return [
            each.name for each in wrap(text, DESKTOP, LAUNCHER, chosen).outcomes if each.changed
        ]

    assert changed(ALL) == ["a", "b"]
    assert changed(Selection(only=frozenset(["a", "off"]))) == ["a", "off"]
    assert changed(Selection(excepted=frozenset("a"))) == ["b"]
    assert changed(Selection(only=frozenset("ab"), excepted=frozenset("a"))) == ["b"]


def between(kind, before, edit, after):
    """Wrap, let a user edit, unwrap: what has to be left is after."""
    wrapped = wrap(before, kind, Launcher("scopekeeper", "scopekeeper"), ALL).text
    edited = edit(wrapped)
    assert edited != wrapped
    assert unwrap(edited, kind, ALL).text == after


JSON5_SERVER = "{mcp: {servers: {a: {command: 'x', args: [\n  'one',\n]}}}}"


@pytest.mark.parametrize(
    ("before", "edit", "after"),
    [
        (JSON5_SERVER, ("'one'", "'two', // mine\n 'three'"),
         "{mcp: {servers: {a: {command: 'x', args: [\n  'two', // mine\n 'three',\n]}}}}"),
        (JSON5_SERVER, ("'x',", "'y', /* now */"),
         "{mcp: {servers: {a: {command: 'y', args: [\n   /* now */\n  'one',\n]}}}}"),
        (JSON5_SERVER, ("  'one',\n", ""), "{mcp: {servers: {a: {command: 'x'}}}}"),
        (JSON5_SERVER, ("  'one',", "// none"),
         "{mcp: {servers: {a: {command: 'x', args: [\n  \n// none\n]}}}}"),
        ("{mcp: {servers: {a: {command: 'x'}}}}", ("'x']", "'x'], env: {}"),
         "{mcp: {servers: {a: {command: 'x', env: {}}}}}"),
        ("{mcp: {servers: {a: {command: 'x', args: []}}}}", ("'x']", "'x',]"),
         "{mcp: {servers: {a: {command: 'x', args: []}}}}"),
        ("{mcp: {servers: {a: {command: 'x'}}}}", (", args:", " /* c */ , args:"),
         "{mcp: {servers: {a: {command: 'x' /* c */  }}}}"),
    ],
)  # fmt: skip
def test_what_a_user_changed_since_stays(before, edit, after):
    between(FORMATS["openclaw"], before, lambda text: text.replace(*edit), after)


def test_a_member_that_was_moved_before_the_command_is_found_and_taken_out():
    kind = FORMATS["openclaw"]
    for text, after in [
        ("{mcp: {servers: {a: {args: ['run', '--', 'x'], command: 'scopekeeper'}}}}",
         "{mcp: {servers: {a: {command: 'x'}}}}"),
        ("{mcp: {servers: {a: {args: ['run', '--', 'x'] /*c*/, command: 'scopekeeper'}}}}",
         "{mcp: {servers: {a: { /*c*/ command: 'x'}}}}"),
        ("{mcp: {servers: {a: {args: ['run', '--', 'x'], // c\n command: 'scopekeeper'}}}}",
         "{mcp: {servers: {a: { // c\n command: 'x'}}}}"),
    ]:  # fmt: skip
        assert unwrap(text, kind, ALL).text == after


def test_in_toml_too_what_a_user_changed_since_stays():
    before = "[mcp_servers.a]\ncommand = 'x' # c\n\n[mcp_servers.b]\ncommand = 'y'"
    undone_and_idempotent(CODEX, before.replace("\n", "\r\n"))
    marked = undone_and_idempotent(CODEX, "\ufeffmcp_servers.a.command = 'x'")
    assert marked.text.endswith(
        "'scopekeeper'\nmcp_servers.a.args = ['run', '--name', 'a', '--kind=mcp', '--memory-max', "
        f"'2G', '--', 'x']\nmcp_servers.a.env_vars = {SESSION}"
    )
    between(CODEX, before, lambda text: text.replace("'x']", "'x'] # mine"),
            before.replace("# c\n", "# c # mine\n"))  # fmt: skip
    between(CODEX, before, lambda text: text.replace("'x']\n", "'x', 'new']\nenabled = true\n"),
            before.replace("# c\n", "# c\nargs = ['new']\nenabled = true\n"))  # fmt: skip
    for mine, left in (("'MINE'", "['MINE']"), ("# c\n'MINE' # d\n", "[ # c\n'MINE' # d\n]")):
        between(CODEX, before, lambda text, mine=mine: text.replace("RUN']", f"RUN', {mine}]", 1),
                before.replace("# c\n", f"# c\nenv_vars = {left}\n"))  # fmt: skip
    between(CODEX, before, lambda text: text.replace("'SCOPEKEEPER_LANE', ", "", 1),
            before.replace("# c\n", "# c\nenv_vars = []\n"))  # fmt: skip
    first = "[mcp_servers.a]\nargs = ['run', '--', 'x']\ncommand = 'scopekeeper'\n"
    assert unwrap(first, CODEX, ALL).text == "[mcp_servers.a]\ncommand = 'x'\n"


def test_a_wrap_by_hand_is_taken_out_and_an_unclear_one_is_left():
    text = json.dumps({"mcpServers": {
        "hand": {"command": "scopekeeper", "args": ["run", "-s", "k", "--no-bus", "uvx", "t"]},
        "odd": {"command": "scopekeeper", "args": ["run", "--nonsense", "--", "uvx"]},
        "none": {"command": "scopekeeper", "args": ["run", "-n", "x"]},
    }})  # fmt: skip
    done = unwrap(text, DESKTOP, ALL)
    assert [outcome.state for outcome in done.outcomes] == ["not wrapped", "unclear", "unclear"]
    servers = json.loads(done.text)["mcpServers"]
    assert servers["hand"] == {"command": "uvx", "args": ["t"]}
    assert servers["odd"] == json.loads(text)["mcpServers"]["odd"]


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        ("claude-desktop", '{"mcpServers": []}', "mcpServers is not an object"),
        ("openclaw", "{mcp: 1}", "mcp is not an object"),
        ("claude-code", '{"projects": 1}', "projects is not an object"),
        ("codex", "mcp_servers = 1", "mcp_servers is not a table"),
        ("codex", "a = 1\na = 2\n", "cannot overwrite a value"),
        ("codex", "[x", "expected ']' at the end of a table declaration where the file ends"),
    ],
)
def test_what_is_no_table_of_servers_is_refused(kind, text, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        look(text, FORMATS[kind], ALL)


@pytest.mark.parametrize("kind", FORMATS.values(), ids=FORMATS)
def test_a_file_without_servers_or_without_anything_is_left_as_it_is(kind):
    nothing = '{"mcpServers": null, "projects": {"/": {}}}'
    for text in ("", "\ufeff \r\n", *(["a = 1"] if kind is CODEX else ["{}", nothing])):
        done = wrap(text, kind, LAUNCHER, ALL)
        assert (done.text, done.outcomes) == (text, ())


def test_what_another_file_has_is_said():
    text = "{mcp: {$include: './mcp.json5', servers: {$include: './more', a: {command: 'x'}}}}"
    done = wrap(text, FORMATS["openclaw"], LAUNCHER, ALL)
    assert [note.partition(":")[0] for note in done.notes] == [
        "mcp.$include",
        "mcp.servers.$include",
    ]
    assert [outcome.name for outcome in done.outcomes] == ["a"]


def test_an_update_keeps_a_comment_among_the_options_and_the_name():
    text = """{mcp: {servers: {a: {command: '/x/scopekeeper', args: [
      'run', // why
      '-n', 'mine', '--memory-max=1G', /* own */ '--', 'npx', '-y']}}}}"""
    kind = FORMATS["openclaw"]
    done = wrap(text, kind, OTHER, ALL, update=True)
    (server,) = parse(done.text, JSON5).data["mcp"]["servers"].values()
    assert server == {
        "command": "/new/scopekeeper",
        "args": ["run", "--name", "mine", "--kind", "mcp", "--tasks-max", "7", "--", "npx", "-y"],
    }
    assert ("// why" in done.text, "/* own */" in done.text) == (True, True)
    assert wrap(done.text, kind, OTHER, ALL, update=True).text == done.text


def test_options_that_are_spelled_otherwise_are_the_same():
    text = """{"mcpServers": {"a": {"command": "scopekeeper",
      "args": ["run", "--memory-max=2G", "x"]}}}"""
    (outcome,) = wrap(text, DESKTOP, LAUNCHER, ALL).outcomes
    assert (outcome.differs, outcome.changed) == (False, False)
    (outcome,) = wrap(text, DESKTOP, OTHER, ALL).outcomes
    assert outcome.differs
