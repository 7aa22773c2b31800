"""``setup --shell-commands``: the line in Claude Code's settings, and its undo to the byte."""

import json
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scopekeeper.errors import UsageError
from scopekeeper.mcp_configs import json5, shell_line
from scopekeeper.setup import record, shell_commands
from tests.configs import Writer
from tests.unit.test_cli_setup import call, home, tree  # noqa: F401  fixtures

PROGRAM = "/usr/bin/scopekeeper-prefix"
ADVICE = (
    "  Claude Code shell commands: its shell commands run in no scope\n"
    "      scopekeeper setup --shell-commands\n"
)
HOOK = {"type": "command", "command": "mine"}


@pytest.fixture
def claude(home):  # noqa: F811
    """The settings of Claude Code, which are not there yet."""
    path = home / ".claude/settings.json"
    path.parent.mkdir()
    return path


@pytest.fixture(autouse=True)
def program(tmp_path, monkeypatch):
    """An installed program, in a folder that counts as one that stays."""
    monkeypatch.setattr(shell_commands, "_PASSING", ("/tmp/passing/",))
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("scopekeeper", "scopekeeper-prefix"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    monkeypatch.setattr(
        "scopekeeper.setup.step.installed", lambda: ("scopekeeper", str(folder / "scopekeeper"))
    )
    return folder / "scopekeeper-prefix"


TEXTS = {
    "none": None,
    "empty": "{}",
    "blank": "{ }\n",
    "no variables": '{\n  "env": { }\n}\n',
    "variables": '{\n\t"model": "opus",\n\t"env": {\n\t\t"A": "1"\n\t}\n}',
    "one line": '{"env":{"A":"1"},"model":"x"}',
    "hooks": json.dumps({"hooks": {"SessionEnd": [{"hooks": [HOOK]}]}}, indent=4),
    "windows": '{\r\n  "model": "x"\r\n}\r\n',
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_the_line_is_written_and_taken_back_to_the_byte(claude, home, call, program, text):  # noqa: F811
    if text is not None:
        claude.write_bytes(text.encode())
    before = tree(home)
    status, out, _ = call("--yes", "--shell-commands")
    assert status == 0
    assert "The line puts Claude Code's shell commands into scopes, too." in out
    data = json.loads(claude.read_bytes())
    assert data["env"]["CLAUDE_CODE_SHELL_PREFIX"] == str(program)
    assert "scopekeeper hook claude" in json.dumps(data["hooks"])
    if text is not None:
        backup = claude.with_name("settings.json.before-scopekeeper")
        assert backup.read_bytes() == text.encode()
    assert call("--yes", "--shell-commands")[1].splitlines()[-1] == "Nothing to do."
    assert "~/.claude/settings.json: " in call("--undo", "--dry-run")[1]
    assert json.loads(claude.read_bytes()) == data
    status, out, _ = call("--undo")
    assert (status, "left:" in out) == (0, False)
    assert tree(home) == before


@pytest.mark.parametrize("first", [(), ("--shell-commands",)])
def test_it_is_named_and_done_in_a_second_call(claude, home, call, first):  # noqa: F811
    claude.write_text(TEXTS["variables"])
    before = tree(home)
    out = call("--yes", *first)[1]
    assert (ADVICE in out) is not bool(first)
    assert call("--yes", "--shell-commands")[0] == 0
    assert ADVICE not in call("--dry-run")[1]
    call("--undo")
    assert tree(home) == before


def test_another_value_stays(claude, home, call):  # noqa: F811
    claude.write_text('{"env": {"CLAUDE_CODE_SHELL_PREFIX": "/opt/mine"}}')
    assert call("--yes", "--shell-commands")[0] == 0
    assert json.loads(claude.read_text())["env"] == {"CLAUDE_CODE_SHELL_PREFIX": "/opt/mine"}
    out = call("--yes", "--shell-commands")[1]
    assert "its settings have another CLAUDE_CODE_SHELL_PREFIX, which" in out
    assert [each.step for each in record.load().entries] == ["hooks"]


@pytest.mark.parametrize(
    ("text", "words"),
    [('{"env": 7}', "env is not an object"), ('{"env"', "")],
    ids=["no table", "no JSON"],
)
def test_settings_of_another_form_stay(claude, call, text, words):  # noqa: F811
    claude.write_text(text)
    out = call("--yes", "--shell-commands")[1]
    assert words in out
    assert "CLAUDE_CODE_SHELL_PREFIX" not in claude.read_text()


def test_a_program_that_may_be_gone_soon_is_not_written(claude, call, program, monkeypatch):  # noqa: F811
    monkeypatch.setattr(shell_commands, "_PASSING", (f"{program.parent}/",))
    out = call("--yes", "--shell-commands")[1]
    assert "may be gone soon: install scopekeeper first" in " ".join(out.split())
    program.unlink()
    assert "there is no " in call("--yes", "--shell-commands")[1]
    assert "CLAUDE_CODE_SHELL_PREFIX" not in claude.read_text()


def test_a_line_whose_program_is_gone_needs_a_hand(claude, call, program):  # noqa: F811
    call("--yes", "--shell-commands")
    program.unlink()
    out = " ".join(call("--yes")[1].split())
    assert f"there is no {program} (CLAUDE_CODE_SHELL_PREFIX): it starts no command" in out
    assert call("--undo")[0] == 0
    assert not claude.exists()


def test_what_was_edited_since_stays(claude, call):  # noqa: F811
    claude.write_text(TEXTS["variables"])
    call("--yes", "--shell-commands")
    data = json.loads(claude.read_text())
    data["env"]["B"] = "2"
    claude.write_text(json.dumps(data))
    assert call("--undo")[0] == 0
    assert json.loads(claude.read_text()) == {"model": "opus", "env": {"A": "1", "B": "2"}}


def test_a_line_that_was_changed_since_is_left_and_named(claude, call):  # noqa: F811
    claude.write_text(TEXTS["variables"])
    call("--yes", "--shell-commands")
    data = json.loads(claude.read_text())
    data["env"]["CLAUDE_CODE_SHELL_PREFIX"] = "/opt/mine"
    claude.write_text(json.dumps(data))
    status, out, _ = call("--undo")
    assert status == 0
    assert "left: ~/.claude/settings.json: the line of setup is not in it by now" in out
    assert "/opt/mine" in claude.read_text()


@pytest.mark.parametrize(
    "facts",
    [{}, {"program": ["x"], "inserted": ["model"], "replaced": ['"evil": 1, "model"']},
     {"program": [], "inserted": [""], "replaced": [""]}],
)  # fmt: skip
def test_a_forged_entry_changes_nothing_else(claude, home, call, program, facts):  # noqa: F811
    claude.write_text(TEXTS["variables"])
    call("--yes", "--shell-commands")
    known = record.load()
    known.entries = [each for each in known.entries if each.step != "shell"]
    forged = {**facts, "program": [str(program)]} if facts.get("program") else facts
    known.entries.append(record.Entry("shell", str(claude), forged))
    known.save()
    call("--undo")
    data = json.loads(claude.read_text())
    assert "evil" not in data
    assert data["model"] == "opus"
    assert data["env"]["A"] == "1"


@pytest.fixture
def start(tmp_path, home):  # noqa: F811
    """Return a function that starts a program of Claude Code's name; all are ended."""
    script = tmp_path / "claude"
    script.write_text("import sys\nprint('ready', flush=True)\nsys.stdin.read()\n")
    running = []

    def do():
        words = [sys.executable, "-IS", str(script)]
        client = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        running.append(client)
        assert client.stdout.readline() == b"ready\n"
        return client

    yield do
    for client in running:
        client.communicate(timeout=60)


def test_a_claude_that_started_before_is_named_until_it_starts_again(claude, call, start):  # noqa: F811
    client = start()
    call("--yes", "--shell-commands")
    named = (
        f"  Claude Code shell commands: pid {client.pid} started before: its shell commands run in "
        "no scope\n"
        "      end it, and start it again\n"
    )
    assert named in call("--dry-run")[1]
    assert call("--yes")[1].splitlines()[-1] == "Nothing to do."
    assert named in call("--dry-run")[1]
    client.communicate(timeout=60)
    assert "started before" not in call("--dry-run")[1]
    start()
    assert "started before" not in call("--dry-run")[1]


@pytest.mark.parametrize("since", [[], ["x"], None])
def test_a_record_without_a_time_names_nothing(claude, call, start, since):  # noqa: F811
    start()
    call("--yes", "--shell-commands")
    known = record.load()
    (facts,) = (each.facts for each in known.entries if each.step == "shell")
    if since is None:
        del facts["since"]
    else:
        facts["since"] = since
    known.save()
    assert "started before" not in call("--dry-run")[1]
    assert call("--undo")[0] == 0
    assert not claude.exists()


def test_it_is_undone_by_undo_alone(call):  # noqa: F811
    with pytest.raises(UsageError, match="--undo takes back all that setup did"):
        call("--undo", "--shell-commands")


def test_without_claude_code_there_is_nothing_to_say(call):  # noqa: F811
    assert "shell commands" not in call("--dry-run")[1]


VALUES = st.dictionaries(
    st.sampled_from(["A", "B", "model"]),
    st.sampled_from(["1", "x y", {"a": "b"}, {}, ["x"]]), max_size=3,
)  # fmt: skip


@given(st.data())
@settings(suppress_health_check=list(HealthCheck), max_examples=300, deadline=None)
def test_any_settings_are_restored_to_the_byte(data):
    draw = data.draw
    value = draw(VALUES)
    if draw(st.booleans()):
        value["env"] = draw(VALUES)
    writer = Writer(draw, json5.JSON)
    text = writer.gap(0) + writer.value(value) + writer.gap(0)
    new, inserted, replaced = shell_line.add(text, PROGRAM)
    wanted = value | {"env": {shell_line.VARIABLE: PROGRAM} | value.get("env", {})}
    assert json.loads(new) == wanted
    assert shell_line.remove(new, inserted, replaced, PROGRAM) == text
