"""``scopekeeper setup`` and ``--undo`` in homes full of samples; without systemd.

tests/systemd/test_setup.py has the units, on real managers.
"""

import hashlib
import io
import json
import os
import re
import shutil
import sys

import pytest

from scopekeeper.cli import setup
from scopekeeper.cli.main import group
from scopekeeper.doctor.finding import Finding, Status
from scopekeeper.errors import (
    ConflictError,
    InterruptedWorkError,
    StateError,
    UnavailableError,
)
from scopekeeper.setup import gateways, mcp_servers, record, step
from tests.unit.test_cli_wrap import HOMES, SAMPLES, SIMPLE

FINE = [Finding("kernel", Status.OK, "6.1")]
CURSOR = ".cursor/mcp.json"


def no_manager(*_):
    raise UnavailableError("systemd does not run here")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home, on a machine without systemd."""
    home = tmp_path / "home"
    home.mkdir()
    for name in list(os.environ):
        if name.startswith(("XDG_", "OPENCLAW_", "CLAUDE_", "CODEX_", "SCOPEKEEPER_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(home / ".local/state/scopekeeper"))
    monkeypatch.chdir(home)
    monkeypatch.setattr(step, "Systemctl", no_manager)
    monkeypatch.setattr(setup.choose_placement, "find", lambda *_: None)
    monkeypatch.setattr(gateways.parts, "gateways", lambda _: ())
    monkeypatch.setattr(setup, "examine", lambda: FINE)
    monkeypatch.setattr(
        "scopekeeper.doctor.parts.keeper", lambda _: Finding("keeper", Status.OK, "runs")
    )
    return home


@pytest.fixture
def full(home):
    """A home with the configuration of every client."""
    for name, sample in HOMES.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(SAMPLES / sample, path)
    return home


@pytest.fixture
def cursor(home):
    """A home in which only Cursor has servers."""
    path = home / CURSOR
    path.parent.mkdir()
    path.write_text(SIMPLE)
    return path


@pytest.fixture
def call(home, capsys):
    """Return exit status, standard output and standard error of a call."""

    def do(*words):
        status = 0
        try:
            setup.command.main(words, standalone_mode=False, **group.context_settings)
        except SystemExit as ended:
            status = ended.code
        done = capsys.readouterr()
        return status, done.out, done.err

    return do


def tree(top):
    """Return every path below a folder, with its mode and the sum of its content."""
    return {
        str(path): (
            path.lstat().st_mode,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in top.rglob("*")
    }


def test_all_clients_are_wrapped_and_undone_to_the_byte(full, call):
    before = tree(full)
    status, out, _ = call("--yes")
    assert status == 0
    for name in HOMES:
        text = (full / name).read_text()
        assert text != (SAMPLES / HOMES[name]).read_text(), name
        assert "scopekeeper" in text
        assert f"~/{name}: " in out
    assert "A rewritten file is beside it as it was: FILE.before-scopekeeper.\n" in out
    assert "Checked: scopekeeper works here." in out
    changed = tree(full)
    status, out, _ = call("--yes")
    assert (status, out.splitlines()[-1]) == (0, "Nothing to do.")
    assert tree(full) == changed
    status, out, _ = call("--undo")
    assert status == 0
    assert out.count("restored to the byte") == len(HOMES) - 1  # OpenClaw has its own words
    assert tree(full) == before
    assert call("--undo")[1] == "Nothing to undo: setup has changed nothing here.\n"


def test_each_change_is_recorded_before_it_is_made(cursor, home, monkeypatch):
    seen = []

    def replace(*_, **__):
        seen.append(json.loads((home / ".local/state/scopekeeper/setup.json").read_text()))
        raise KeyboardInterrupt

    monkeypatch.setattr(mcp_servers.files, "replace", replace)
    with pytest.raises(InterruptedWorkError, match="to take it back: scopekeeper setup --undo"):
        setup.command.callback(agreed=True, undo=False, shell_commands=False, dry_run=False,
                                   no_trunc=False)  # fmt: skip
    assert [each["target"] for each in seen[0]["changes"]] == [str(cursor)]


def test_what_was_killed_before_its_change_is_undone_by_leaving_it(cursor, home, call, monkeypatch):
    before = tree(home)

    def replace(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(mcp_servers.files, "replace", replace)
        with pytest.raises(InterruptedWorkError):  # click's main makes another error of it
            setup.command.callback(agreed=True, undo=False, shell_commands=False, dry_run=False,
                                   no_trunc=False)  # fmt: skip
    assert call("--undo")[0] == 0
    assert tree(home) == before


def test_a_dry_run_and_a_call_without_a_terminal_change_nothing(full, call, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    before = tree(full)
    status, out, err = call("--dry-run")
    assert (status, err) == (0, "")
    assert out.splitlines()[0].split() == ["WHAT", "WILL", "WHERE"]
    assert "\nA wrapped server ends with its session.\n" in out
    assert re.search(r"Cursor +wrap 2 servers +~/.cursor/mcp.json\n", out)
    status, _, err = call()
    assert status == 1
    assert err == ("scopekeeper: nothing was changed: there is no terminal to ask at; to do it: "
                   "scopekeeper setup --yes\n")  # fmt: skip
    assert tree(full) == before


@pytest.mark.parametrize(("answer", "status"), [(True, 0), (False, 1)])
def test_it_asks_once(cursor, call, monkeypatch, answer, status):
    asked = []

    class Terminal:
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(setup.click, "confirm", lambda text: asked.append(text) or answer)
    done = call()
    assert (done[0], asked) == (status, ["Do this?"])
    assert (cursor.read_text() == SIMPLE) is not answer
    assert ("Nothing was changed." in done[1]) is not answer


def test_a_failure_is_named_and_the_rest_is_done_and_recorded(full, call):
    in_the_way = full / f"{CURSOR}.before-scopekeeper"
    in_the_way.mkdir()
    before = tree(full)
    status, out, err = call("--yes")
    assert status == 1
    assert f"scopekeeper: not done: Cursor: {in_the_way}: is in the way of the backup; " in err
    assert "~/.cursor/mcp.json: " not in out
    assert (full / CURSOR).read_text() == (SAMPLES / "cursor.json").read_text()
    recorded = [each.target for each in record.load().entries]
    assert str(full / CURSOR) not in recorded
    assert str(full / ".qwen/settings.json") in recorded
    assert call("--undo")[0] == 0
    assert tree(full) == before


@pytest.mark.parametrize("is_same", [False, True])
def test_what_was_wrapped_by_hand_before_stays(home, cursor, call, is_same):
    by_hand = {"command": "scopekeeper", "args": ["run", "-n", "b", "--ttl", "1h", "--", "y"]}
    cursor.write_text(json.dumps({"mcpServers": {"a": {"command": "x"}, "b": by_hand}}))
    backup = cursor.with_name("mcp.json.before-scopekeeper")
    backup.write_text(cursor.read_text() if is_same else SIMPLE)
    before = tree(home)
    assert call("--yes")[0] == 0
    assert tree(home) != before
    assert call("--undo")[0] == 0
    assert tree(home) == before


@pytest.fixture
def claude(home):
    """A home in which Claude Code has settings, and a hook of its user."""
    path = home / ".claude/settings.json"
    path.parent.mkdir()
    path.write_text(
        '{"hooks": {"SessionEnd": [{"hooks": [{"command": "mine", "type": "command"}]}]}}'
    )
    return path


def test_hooks_are_registered_and_removed_to_the_byte(claude, home, call):
    (home / ".copilot").mkdir()
    before = tree(home)
    status, out, _ = call("--yes")
    assert status == 0
    assert "scopekeeper hook claude SessionEnd" in claude.read_text()
    made = home / ".copilot/hooks/scopekeeper.json"
    assert "scopekeeper hook copilot sessionEnd" in made.read_text()
    assert "~/.claude/settings.json: 1 hook added (SessionEnd)" in out
    assert "~/.copilot/hooks/scopekeeper.json: made, with 1 hook (sessionEnd)" in out
    assert call("--yes")[1].splitlines()[-1] == "Nothing to do."
    status, out, _ = call("--undo")
    assert (status, "left:" in out) == (0, False)
    assert "~/.claude/settings.json: its hook is removed" in out
    assert "~/.copilot/hooks/scopekeeper.json: removed" in out
    assert tree(home) == before


def test_a_hook_that_was_registered_by_hand_stays(claude, home, call):
    hook = {"type": "command", "command": "scopekeeper hook claude SessionEnd"}
    claude.write_text(json.dumps({"hooks": {"SessionEnd": [{"hooks": [hook]}]}}))
    before = tree(home)
    assert call("--yes")[1].splitlines()[-1] == "Nothing to do."
    assert call("--undo")[0] == 0
    assert tree(home) == before


def test_hooks_that_are_switched_off_need_a_hand(claude, home, call):
    claude.write_text('{"disableAllHooks": true}')
    before = tree(home)
    _, out, _ = call("--yes")
    assert "disableAllHooks is true" in out
    assert tree(home) == before


def test_what_was_done_by_hand_with_a_hook_since_is_named(claude, call):
    call("--yes")
    claude.write_text("{}")
    status, out, _ = call("--undo")
    assert status == 0
    assert "left: ~/.claude/settings.json: no hook of scopekeeper is in it by now" in out


def test_what_was_edited_since_stays_and_is_named(cursor, call):
    call("--yes")
    data = json.loads(cursor.read_text())
    data["mcpServers"]["new"] = {"command": "z"}
    cursor.write_text(json.dumps(data))
    status, out, _ = call("--undo")
    assert status == 0
    assert "left: ~/.cursor/mcp.json: what was edited since setup stays" in out
    wanted = {**json.loads(SIMPLE)["mcpServers"], "new": {"command": "z"}}
    assert json.loads(cursor.read_text())["mcpServers"] == wanted


def test_a_file_that_is_gone_is_named(cursor, home, call):
    call("--yes")
    shutil.rmtree(cursor.parent)
    status, out, _ = call("--undo")
    command = f"scopekeeper unwrap {cursor}"
    assert out == f"left: ~/.cursor/mcp.json is gone; should it come back: {command}\n"
    assert status == 0
    assert not (home / ".local").exists()


def test_one_name_in_two_tables_of_which_one_was_wrapped_by_hand_is_left(home, call):
    path = home / ".claude.json"
    wrapped = {"command": "scopekeeper", "args": ["run", "-n", "a", "--", "x"]}
    data = {"mcpServers": {"a": {"command": "x"}},
            "projects": {"/p": {"mcpServers": {"a": wrapped}}}}  # fmt: skip
    path.write_text(json.dumps(data))
    assert call("--yes")[0] == 0
    changed = path.read_bytes()
    status, _, err = call("--undo")
    assert status == 1
    assert "scopekeeper: not undone: " in err
    assert "setup wrapped only some; unwrap what is to be unwrapped: scopekeeper unwrap" in err
    assert path.read_bytes() == changed
    assert [each.target for each in record.load().entries] == [str(path)]


def test_a_second_setup_adds_to_the_record(cursor, home, call):
    before = tree(home)
    call("--yes")
    gemini = home / ".gemini/settings.json"
    gemini.parent.mkdir()
    gemini.write_text(SIMPLE)
    assert call("--yes")[0] == 0
    assert call("--undo")[0] == 0
    assert gemini.read_text() == SIMPLE
    shutil.rmtree(gemini.parent)
    assert tree(home) == before


def test_what_setup_does_not_do_is_listed_with_its_command(home, call):
    (home / ".gemini").mkdir()
    (home / ".gemini/settings.json").write_text("{ not JSON")
    project = home / "it's a project"
    project.mkdir()
    (project / ".mcp.json").write_text(SIMPLE)
    (home / ".claude.json").write_text(json.dumps({"projects": {str(project): {}}}))
    status, out, _ = call()
    assert status == 0
    gemini = f"{home}/.gemini/settings.json"
    assert f"      correct {gemini}, then: scopekeeper wrap {gemini}\n" in out
    assert "2 servers of a project are not wrapped; others may share this file" in out
    assert """      scopekeeper wrap '/""" in out
    assert out.endswith("Nothing to do.\n")


def test_where_nothing_is_known_it_says_what_to_do_by_hand(call):
    status, out, _ = call()
    assert status == 0
    for words in (
        "scopekeeper wrap FILE",
        "scopekeeper run -n gateway -- COMMAND",
        "scopekeeper.Cohort(",
    ):
        assert words in out


def test_where_no_scope_can_be_made_nothing_is_wrapped(cursor, call, monkeypatch):
    def find(_):
        raise UnavailableError("cgroup2 is not mounted")

    monkeypatch.setattr(setup.choose_placement, "find", find)
    with pytest.raises(UnavailableError):
        call("--yes")
    assert cursor.read_text() == SIMPLE


def test_an_interrupt_during_the_check_is_reported_with_what_takes_it_back(
    cursor, call, monkeypatch
):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(setup, "examine", interrupted)
    with pytest.raises(setup.click.Abort) as caught:  # by click's own loop
        call("--yes")
    assert isinstance(caught.value.__cause__, InterruptedWorkError)
    assert "scopekeeper setup --undo" in str(caught.value.__cause__)
    assert "scopekeeper" in cursor.read_text()
    assert call("--undo")[0] == 0
    assert cursor.read_text() == SIMPLE


def test_a_file_that_cannot_be_undone_is_named_once(cursor, call):
    call("--yes")
    text = cursor.read_text()
    cursor.write_text("{ not JSON")
    status, _, err = call("--undo")
    assert status == 1
    assert [line.count(str(cursor)) for line in err.splitlines() if "not undone" in line] == [1]
    cursor.write_text(text)
    assert call("--undo")[0] == 0


def test_a_machine_that_does_not_work_afterwards_is_reported(cursor, call, monkeypatch):
    broken = Finding("trial", Status.FAIL, "a launch failed", "mend it so")
    monkeypatch.setattr(setup, "examine", lambda: [broken])
    status, out, _ = call("--yes")
    assert status == 1
    assert "fail   trial: a launch failed\n       → mend it so\n" in out
    assert "Checked: scopekeeper does not work here." in out


def test_two_setups_do_not_run_at_once(cursor, call):
    with record.changing(), pytest.raises(ConflictError, match="another setup runs"):
        call("--yes")
    assert cursor.read_text() == SIMPLE


ENTRY = {"step": "servers", "target": "/x", "facts": {}}
FORGED = {
    "no JSON": "{",
    "a list": "[]",
    "no version": "{}",
    "another version": json.dumps({"version": 2, "made": [], "changes": []}),
    "a number": json.dumps({"version": 1, "made": [], "changes": [{**ENTRY, "target": 7}]}),
    "a null byte": json.dumps({"version": 1, "made": [], "changes": [{**ENTRY, "step": "\0"}]}),
    "no facts": json.dumps({"version": 1, "made": [], "changes": [{**ENTRY, "facts": []}]}),
    "long": json.dumps({"version": 1, "made": [], "changes": [{**ENTRY, "target": "x" * 5000}]}),
    "many": json.dumps({"version": 1, "made": [], "changes": [ENTRY] * 1001}),
    "huge": " " * (1 << 20) + "{}",
    "deep": "[" * 100_000,
}


@pytest.fixture
def folder(home):
    """The state folder."""
    folder = home / ".local/state/scopekeeper"
    folder.mkdir(parents=True, mode=0o700)
    return folder


@pytest.mark.parametrize("text", FORGED.values(), ids=FORGED)
def test_a_forged_record_is_refused(cursor, folder, home, call, text):
    (folder / "setup.json").write_text(text)
    before = tree(home)
    for words in (["--undo"], ["--yes"]):
        with pytest.raises(StateError) as refused:
            call(*words)
        assert "move it away, and undo by hand" in str(refused.value)
    assert tree(home) == before


@pytest.mark.parametrize(
    "facts",
    [{}, {"client": ["cursor"]}, {"client": ["cursor"], "before": ["x"], "backups": [],
                                  "servers": ["no JSON"]},
     {"client": ["cursor"], "before": ["x"], "backups": [], "servers": ["[{}]"]}],
)  # fmt: skip
def test_a_forged_entry_is_refused_and_the_others_are_undone(cursor, folder, call, facts):
    before = cursor.read_bytes()
    call("--yes")
    known = record.load()
    known.entries += [record.Entry("servers", str(cursor), facts), record.Entry("wings", "/x", {})]
    known.save()
    status, out, err = call("--undo")
    assert status == 1
    assert f"{cursor}: its entry in {folder}/setup.json has been changed" in err
    assert "this version has no step 'wings' to undo" in err
    assert "restored to the byte" in out
    assert cursor.read_bytes() == before
    assert len(record.load().entries) == 2


def test_a_fifo_in_place_of_the_record_does_not_block(folder, call):
    os.mkfifo(folder / "setup.json")
    with pytest.raises(StateError, match="it is a FIFO"):
        call("--undo")


def test_a_state_folder_that_was_there_stays(cursor, folder, call):
    call("--yes")
    call("--undo")
    assert list(folder.iterdir()) == []
