"""Registering a hook adds one item to its event's list, and is undone to the byte."""

import contextlib
import json
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from scopekeeper.errors import ConfigError
from scopekeeper.mcp_configs.document import ParseError, apply
from scopekeeper.mcp_configs.hooks import look, register, unregister
from scopekeeper.mcp_configs.json5 import parse
from scopekeeper.mcp_configs.wrap import Launcher, Selection, unwrap, wrap
from tests.configs import toml_configs
from tests.formats import FORMATS
from tests.hook_configs import json_settings, toml_settings, yaml_settings

SAMPLES = Path(__file__).parents[1] / "clients" / "hooks"
PROGRAM = "/opt/a b/it's/scopekeeper"
LONE_LINE_FEED = re.compile(r"(?<!\r)\n")
GEMINI, CODEX, HERMES = (FORMATS[name].hooks for name in ("gemini", "codex", "hermes"))
CLAUDE, COPILOT = (FORMATS[name].hooks for name in ("claude-code", "copilot"))


def undone_and_idempotent(kind, text):
    done = register(text, kind, PROGRAM)
    assert apply(text, done.edits) == done.text
    assert unregister(done.text, kind).text == text
    assert register(done.text, kind, "/new/scopekeeper").text == done.text
    assert [each.state for each in look(done.text, kind).outcomes] == [
        "registered" for _ in kind.events
    ]
    updated = register(done.text, kind, "scopekeeper", update=True)
    assert updated.text == register(text, kind, "scopekeeper").text
    assert unregister(updated.text, kind).text == text
    if "\r\n" in text and not LONE_LINE_FEED.search(text):
        assert not LONE_LINE_FEED.search(done.text)
    return done.text


def expected(kind, hooks):
    """Return the hooks of a user with those that are added, each at the end of its list."""
    made = {event: list(items or []) for event, items in (hooks or {}).items()}
    for event in kind.events:
        made.setdefault(event, []).append(kind.item(kind.command(PROGRAM, event)))
    return made


def readable(data):
    """Return data as JSON; a number is what it is written as."""
    return json.dumps(data, default=lambda raw: json.loads(raw.text), sort_keys=True)


@given(json_settings())
def test_hooks_in_json_are_added_and_removed_to_the_byte(settings):
    kind, text, value = settings
    done = undone_and_idempotent(kind, text)
    now = parse(done, kind.dialect).data
    assert readable(now) == readable({**value, "hooks": expected(kind, value.get("hooks"))})
    assert [key for key in now if key != "hooks"] == [key for key in value if key != "hooks"]
    comment = re.compile(r"c[0-9]+, \] \} \" '")
    assert comment.findall(done) == comment.findall(text)


@given(toml_settings())
def test_hooks_in_toml_are_added_and_removed_to_the_byte(settings):
    kind, text, hooks = settings
    before = tomllib.loads(text)
    assert {key: each for key, each in before.get("hooks", {}).items() if key != "state"} == hooks
    done = undone_and_idempotent(kind, text)
    state = {key: each for key, each in before.get("hooks", {}).items() if key == "state"}
    assert tomllib.loads(done) == {**before, "hooks": {**expected(kind, hooks), **state}}
    assert done.startswith(text)


@given(yaml_settings())
def test_hooks_in_yaml_are_added_and_removed_to_the_byte(settings):
    kind, text, hooks = settings
    before = YAML(typ="safe", pure=True).load(text) or {}
    given_hooks = {key: each or [] for key, each in (before.get("hooks") or {}).items()}
    assert given_hooks == (hooks or {}), "the strategy wrote something else"
    done = undone_and_idempotent(kind, text)
    now = YAML(typ="safe", pure=True).load(done)
    now["hooks"] = {event: items or [] for event, items in now["hooks"].items()}
    assert now == {**before, "hooks": expected(kind, hooks)}
    comment = re.compile("# c[^\\r\\n]*")
    assert comment.findall(text) == comment.findall(done)


PIECES = ["//", "/*", "*/", "{", "}", "[", "]", "'", '"', "\\", ",", "a", ":", "-", "#", "\n", " ",
          "|", "&a ", "*a", "=", "hooks"]  # fmt: skip


@given(json_settings() | toml_settings() | yaml_settings(), st.lists(st.sampled_from(PIECES)),
       st.integers(0))  # fmt: skip
def test_what_is_broken_is_refused_or_undone_all_the_same(settings, pieces, at):
    kind, text, _ = settings
    at %= len(text) + 1
    broken = text[:at] + "".join(pieces) + text[at:]
    with contextlib.suppress(ParseError, ConfigError):
        undone_and_idempotent(kind, broken)


@given(json_settings() | toml_settings() | yaml_settings(), st.lists(st.sampled_from(PIECES)),
       st.integers(0))  # fmt: skip
def test_what_is_edited_since_loses_the_hooks_or_is_refused(settings, pieces, at):
    kind, text, _ = settings
    text = register(text, kind, PROGRAM).text
    at %= len(text) + 1
    edited = text[:at] + "".join(pieces) + text[at:]
    with contextlib.suppress(ParseError, ConfigError):
        left = unregister(edited, kind).text
        assert not any(each.program for each in look(left, kind).outcomes)


@given(toml_configs(), st.booleans())
def test_a_file_with_servers_and_hooks_is_undone_in_any_order(config, servers_first):
    client, text, _ = config
    launcher, everything = Launcher("scopekeeper", "/opt/scopekeeper"), Selection()
    steps = [lambda each: wrap(each, client, launcher, everything).text,
             lambda each: register(each, CODEX, PROGRAM).text]  # fmt: skip
    undo = [lambda each: unwrap(each, client, everything).text,
            lambda each: unregister(each, CODEX).text]  # fmt: skip
    now = text
    for step in (*(steps if servers_first else reversed(steps)), *undo):
        now = step(now)
    assert now == text


@given(json_settings(), st.sampled_from([None, 1, 4]))
def test_a_client_that_writes_its_settings_anew_in_between_is_undone_in_meaning(settings, indent):
    kind, _, value = settings
    text = register(json.dumps(value), kind, PROGRAM).text
    anew = json.dumps(json.loads(text), indent=indent, ensure_ascii=False, sort_keys=True)
    left = json.loads(unregister(anew, kind).text)
    assert without_empty(left) == without_empty(value)


def without_empty(value):
    """Return settings without empty lists of hooks: a new text does not show whose they were."""
    hooks = {event: items for event, items in value.get("hooks", {}).items() if items}
    rest = {key: each for key, each in value.items() if key != "hooks"}
    return {**rest, "hooks": hooks} if hooks else rest


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *((kind, text) for kind in (CLAUDE, GEMINI) for text in (
            "{}", "{}\n", "{ }", "{\n}", "{\n\n}", '{"hooks": {}}', '{"hooks":{}, "a": 1}',
            '{\n  "hooks": {}\n}\n', '{\n  "hooks": {\n  }\n}', '{"hooks": {"SessionEnd": []}}',
            '{\n  "hooks": {\n    "SessionEnd": []\n  }\n}', '{"hooks": { "SessionEnd": [ ] } }',
        )),
        *((CODEX, text) for text in ("", "\n", "a = 1", "a = 1\n", "a = 1\n\n", "[hooks]\n")),
        *((HERMES, text) for text in (
            "", "\n", "# c", "a: 1", "a: 1\n", "hooks:", "hooks:\n", "hooks: {}", "hooks: { }\n",
            "hooks:\n  on_session_finalize:\n", "hooks:\n  on_session_finalize: []\nb: 1\n", "{}",
            "hooks:\n  on_session_finalize:\n  - command: |\n      a\n      b\n\nc: 1\n",
        )),
    ],
)  # fmt: skip
def test_what_is_empty_or_missing_is_so_again_afterwards(kind, text):
    undone_and_idempotent(kind, text)


NAMES = sorted(path.stem for path in SAMPLES.iterdir() if ".registered" not in path.name)


@pytest.mark.parametrize("name", NAMES)
def test_samples(name):
    (path,) = [path for path in SAMPLES.iterdir() if path.stem == name]
    golden = path.with_suffix(f".registered{path.suffix}").read_text()
    kind = FORMATS[name].hooks
    assert register(path.read_text(), kind, "scopekeeper").text == golden
    assert unregister(golden, kind).text == path.read_text()


def test_there_is_a_sample_of_each_client_with_hooks():
    assert sorted(each.name for each in FORMATS.values() if each.hooks) == NAMES


@pytest.mark.parametrize(
    ("kind", "before", "edit", "after"),
    [
        (CLAUDE, '{"hooks": {}}', ("]}]}", ']}], "Stop": []}'), '{"hooks": { "Stop": []}}'),
        (CLAUDE, '{\n  "a": 1\n}\n', ('"a": 1', '"a": 2'), '{\n  "a": 2\n}\n'),
        (CLAUDE, "{}", ('; true"}', '; true"}, {"type": "command", "command": "mine"}'),
         '{"hooks": {"SessionEnd": [{"hooks": [{"type": "command", "command": "mine"}]}]}}'),
        (GEMINI, "{}", ("10000", "5000"), "{}"),
        (HERMES, "a: 1\n", ("timeout: 10\n", "timeout: 3\nb: 2\n"), "a: 1\nb: 2\n"),
        (HERMES, "a: 1\n", ("timeout: 10\n", "timeout: 10\n    - command: mine\n"),
         "a: 1\nhooks:\n  on_session_finalize:\n    - command: mine\n"),
        (HERMES, "hooks: {}\n", ("10}", "10}, {command: mine}"),
         "hooks: {on_session_finalize: [{command: mine}]}\n"),
        (CODEX, "a = 1\n", ('true"\n\n[[hooks.SessionEnd', 'true"\n\n[b]\n\n[[hooks.SessionEnd'),
         "a = 1\n\n[b]\n"),
        (CODEX, "a = 1\n", ('SessionEnd; true"\n', 'SessionEnd; true"\n\n# mine\n[b]\n'),
         "a = 1\n\n# mine\n[b]\n"),
        (CODEX, "a = 1", ('SessionStart; true"', 'SessionStart; true"\ntimeout = 5'), "a = 1"),
        (CODEX, "", ('SessionEnd; true"\n',
                     'SessionEnd; true"\n[[hooks.SessionEnd.hooks]]\ncommand = "mine"\n'),
         '[[hooks.SessionEnd]]\n[[hooks.SessionEnd.hooks]]\ncommand = "mine"\n'),
    ],
)  # fmt: skip
def test_what_a_user_changed_since_stays(kind, before, edit, after):
    compact = before == "{}" and kind is CLAUDE
    text = register(before, kind, "scopekeeper").text
    text = json.dumps(json.loads(text)) if compact else text
    assert edit[0] in text
    assert unregister(text.replace(*edit), kind).text == after


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        (CLAUDE, '{"hooks": []}', "hooks is not an object"),
        (CLAUDE, '{"hooks": {"SessionEnd": {}}}', "hooks.SessionEnd is not a list"),
        (CLAUDE, "[]", "the whole is not an object"),
        (CLAUDE, "{} // c", "a comment"),
        (CODEX, "hooks = 1", "hooks is not a table"),
        (CODEX, "[hooks]\nSessionEnd = []", "in brackets"),
        (CODEX, "hooks = {}", "in brackets"),
        (HERMES, "- a", "the whole is not a mapping"),
        (HERMES, "hooks: a", "hooks is not a mapping"),
        (HERMES, "hooks: ~", "hooks is null"),
        (HERMES, "a: &a {}\nhooks: *a", "used twice"),
        (HERMES, "hooks: &a {}\nb: *a", "used twice"),
        (HERMES, "a: &a {hooks: {}}\n<<: *a", "brought in"),
        (HERMES, "hooks:\n  on_session_finalize: a", "is not a list"),
    ],
)
def test_what_cannot_be_added_to_is_refused_with_the_reason(kind, text, reason):
    with pytest.raises((ParseError, ConfigError), match=re.escape(reason)):
        register(text, kind, PROGRAM)


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        (CLAUDE, '{"disableAllHooks": true}', "disableAllHooks is true"),
        (GEMINI, '{"hooksConfig": {"enabled": false}}', "hooksConfig.enabled is false"),
        (CODEX, "[features]\nhooks = false\n", "features.hooks is false"),
        (CODEX, "features.codex_hooks = false\n", "features.codex_hooks is false"),
    ],
)
def test_hooks_that_the_user_switched_off_stay_so(kind, text, reason):
    with pytest.raises(ConfigError, match=f"switched off: {re.escape(reason)}"):
        register(text, kind, PROGRAM)
    on = text.replace("true", "1").replace("false", "1")
    registered = register(on, kind, PROGRAM).text
    key = "disableAllHooks" if kind is CLAUDE else "enabled" if kind is GEMINI else "hooks = "
    off = re.sub(rf'({key}"?:? ?)1', r"\1true" if kind is CLAUDE else r"\1false", registered)
    assert {each.state for each in look(off, kind).outcomes} == {"switched off"}
    assert {each.detail for each in look(off, kind).outcomes} == {reason}
    assert unregister(registered, kind).text == on


@pytest.mark.parametrize(
    "program",
    ["scopekeeper", "/opt/a b/scopekeeper", "/o'x\"\\$y/scopekeeper", "/é\x7f/scopekeeper"],
)
def test_the_command_is_one_that_a_shell_reads_as_the_program_and_the_event(program):
    for kind in (CLAUDE, CODEX, GEMINI, COPILOT, HERMES):
        for event in kind.events:
            command = kind.command(program, event)
            assert kind.program(command, event) == program
            assert kind.program(command, "other") == ""
        undone = register(kind.empty, kind, program)
        assert [each.program for each in look(undone.text, kind).outcomes] == [
            program for _ in kind.events
        ]
        assert unregister(undone.text, kind).text == kind.empty


@pytest.mark.parametrize(
    "command",
    ["", "x", "scopekeeper", "scopekeeper hook claude", "scopekeeper hook codex SessionEnd",
     "not-scopekeeper hook claude SessionEnd", "echo 'open", 7, None,
     "scopekeeper hook claude SessionEnd; mine", "mine && scopekeeper hook claude SessionEnd"],
)  # fmt: skip
def test_a_command_of_the_user_is_never_taken_for_ours(command):
    assert CLAUDE.program(command, "SessionEnd") == ""
