"""``scopekeeper wrap --hooks`` and its undoing, called as a user calls them."""

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from scopekeeper.cli import hooks_left
from scopekeeper.doctor import client_hooks
from scopekeeper.doctor.finding import Status
from tests.formats import FORMATS
from tests.unit.test_cli_wrap import call, tree

SAMPLES = Path(__file__).parents[1] / "clients" / "hooks"
HOMES = {
    ".claude/settings.json": "claude-code.json",
    ".codex/config.toml": "codex.toml",
    ".gemini/settings.json": "gemini.json",
    ".hermes/config.yaml": "hermes.yaml",
}
EVENTS = ["claude-code SessionEnd", "codex SessionStart", "codex SessionEnd",
          "gemini SessionStart", "gemini SessionEnd", "hermes on_session_finalize",
          "copilot sessionEnd"]  # fmt: skip
SHELLS = [shell for shell in ("sh", "dash", "bash", "zsh", "fish") if shutil.which(shell)]


@pytest.fixture
def home(tmp_path):
    """A user's home with the settings of every client, and no hooks of Copilot."""
    for name, sample in HOMES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        shutil.copyfile(SAMPLES / sample, path)
    (tmp_path / ".copilot").mkdir()
    return tmp_path


def launcher(folder):
    """Put a launcher into a folder that writes down its words and its standard input."""
    folder.mkdir(parents=True)
    program = folder / "scopekeeper"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@" >"$CALLED"\ncat >>"$CALLED"\n')
    program.chmod(0o755)
    return program


def with_program(text, program):
    """Return a text whose hooks have another launcher."""
    text = text.replace("-v scopekeeper", f"-v {program}")
    return text.replace("scopekeeper hook", f"{program} hook")


def rows(out):
    """Return the lines of the table, with one blank between the columns."""
    return [" ".join(line.split()) for line in out.splitlines()]


def test_it_registers_the_hooks_of_every_client_and_undoes_all_of_it(home):
    program = launcher(home / "bin")
    before = tree(home)
    status, out, _ = call(home, "wrap", "--hooks", "--check")
    assert (status, [row.count(" not registered - ") for row in rows(out)[1:]]) == (1, [1] * 7)
    status, out, err = call(home, "wrap", "--hooks", "--program", program)
    assert (status, err) == (0, "")
    for name, sample in HOMES.items():
        path, golden = home / name, SAMPLES / sample
        want = golden.with_suffix(f".registered{golden.suffix}").read_text()
        assert path.read_text() == with_program(want, program)
        backup = path.with_name(f"{path.name}.before-scopekeeper")
        assert backup.read_bytes() == before[path]
        assert f"{path}: rewritten; backup: {backup}\n" in out
    own = home / ".copilot/hooks/scopekeeper.json"
    want = (SAMPLES / "copilot.registered.json").read_text()
    assert own.read_text() == with_program(want, program)
    assert (own.stat().st_mode & 0o777, f"{own}: made\n" in out) == (0o600, True)
    assert [row.partition(" registered ")[0] for row in rows(out)[1:8]] == EVENTS
    for client in ("codex", "hermes"):  # what is left to the user
        assert FORMATS[client].hooks.note in out
    assert call(home, "wrap", "--hooks", "--check")[0] == 0
    registered = tree(home)
    status, out, _ = call(home, "wrap", "--hooks")
    assert (status, tree(home), out.count(" already registered ")) == (0, registered, 7)
    assert FORMATS["codex"].hooks.note not in out
    assert call(home, "unwrap")[0] == 0
    assert tree(home) == before
    assert list((home / ".copilot").iterdir()) == []


@pytest.mark.parametrize("hooks_first", [True, False])
@pytest.mark.parametrize("undo", [["unwrap"], ["unwrap", "--hooks"]])
def test_servers_and_hooks_in_one_file_are_undone_alone_and_together(home, undo, hooks_first):
    before = tree(home)
    steps = [["wrap", "--client", "codex"], ["wrap", "--hooks", "--client", "codex"]]
    for step in steps[:: -1 if hooks_first else 1]:
        assert call(home, *step)[0] == 0
    assert call(home, *undo)[0] == 0
    path = home / ".codex/config.toml"
    if undo == ["unwrap"]:
        assert tree(home) == before
        return
    assert "--kind=mcp" in path.read_text()
    assert " hook codex " not in path.read_text()
    assert path.with_name("config.toml.before-scopekeeper").exists()
    assert call(home, "unwrap")[0] == 0
    assert tree(home) == before


def test_only_servers_are_unwrapped_in_a_file_that_is_named(home):
    path = home / ".codex/config.toml"
    call(home, "wrap", "--client", "codex")
    call(home, "wrap", "--hooks", "--client", "codex")
    assert call(home, "unwrap", path)[0] == 0
    assert "scopekeeper run" not in path.read_text()
    assert path.read_text().count(" hook codex ") == 2
    assert call(home, "unwrap", "--hooks", "--client", "codex")[0] == 0
    assert path.read_bytes() == (SAMPLES / "codex.toml").read_bytes()
    assert not path.with_name("config.toml.before-scopekeeper").exists()


@pytest.mark.parametrize("name", [*HOMES, ".copilot/hooks/scopekeeper.json"])
def test_a_file_that_did_not_exist_is_made_and_removed_unless_it_was_changed(home, name):
    path = home / name
    path.unlink(missing_ok=True)
    client = FORMATS[{".claude": "claude-code"}.get(name.split("/")[0], name[1:].split("/")[0])]
    words = ["--client", client.name]
    status, out, _ = call(home, "wrap", "--hooks", *words)
    assert (status, f"{path}: made\n" in out) == (0, True)
    made = path.read_text()
    assert call(home, "unwrap", *words)[0] == 0
    assert not path.exists()
    call(home, "wrap", "--hooks", *words)
    assert path.read_text() == made
    more = {"json": ('"hooks"', '"mine": 1, "hooks"'), "toml": ("[[hooks", "mine = 1\n[[hooks"),
            "yaml": ("hooks:", "mine: 1\nhooks:")}  # fmt: skip
    path.write_text(made.replace(*more[path.suffix[1:]], 1))
    status, out, _ = call(home, "unwrap", *words)
    assert (status, f"{path}: rewritten\n" in out) == (0, True)
    assert ("mine" in path.read_text(), "scopekeeper" in path.read_text()) == (True, False)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_file_of_its_own_is_removed_however_it_is_written_by_now(home):
    path = home / ".copilot/hooks/scopekeeper.json"
    call(home, "wrap", "--hooks", "--client", "copilot")
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True))
    assert call(home, "unwrap", "--hooks")[0] == 0
    assert list((home / ".copilot").iterdir()) == []


def test_a_file_that_was_empty_stays(home):
    for name, text in ((".claude/settings.json", "{}\n"), (".hermes/config.yaml", "")):
        (home / name).write_text(text)
    before = tree(home)
    assert call(home, "wrap", "--hooks")[0] == 0
    assert call(home, "unwrap", "--hooks")[0] == 0
    assert tree(home) == before


@pytest.mark.skipif(not shutil.which("patch"), reason="there is no patch(1) here")
def test_a_diff_is_one_that_patch_takes_and_nothing_is_written(home):
    before = tree(home)
    status, diff, err = call(home, "wrap", "--hooks", "--dry-run")
    assert (status, err, tree(home)) == (0, "", before)
    subprocess.run(["patch", "-p1", "-s", "-d", "/"], input=diff, text=True, check=True)
    patched = tree(home)
    assert len(patched) == len(before) + 1
    status, out, _ = call(home, "wrap", "--hooks")
    assert (status, tree(home), out.count(" already registered ")) == (0, patched, 7)
    status, diff, _ = call(home, "unwrap", "--hooks", "--dry-run")
    subprocess.run(["patch", "-p1", "-s", "-d", "/"], input=diff, text=True, check=True)
    assert (status, tree(home)) == (0, before)


def test_json_has_every_file_and_every_event(home):
    done = json.loads(call(home, "wrap", "--hooks", "--json")[1])
    assert [f"{each['client']} {hook['event']}" for each in done["files"]
            for hook in each["hooks"]] == EVENTS  # fmt: skip
    assert {hook["state"] for each in done["files"] for hook in each["hooks"]} == {"registered"}
    own = done["files"][-1]
    assert (own["made"], own["removed"], own["backup"]) == (True, False, None)
    assert done["files"][0]["backup"] == f"{home}/.claude/settings.json.before-scopekeeper"
    undone = json.loads(call(home, "unwrap", "--json")[1])
    assert [each["client"] for each in undone["hooks"]] == [
        "claude-code", "codex", "gemini", "hermes", "copilot"
    ]  # fmt: skip
    assert undone["hooks"][-1]["removed"]
    assert json.loads(call(home, "unwrap", "--hooks", "--json")[1])["files"] == []


def test_variables_say_where_the_files_are(home):
    moved = home / "elsewhere"
    shutil.move(home / ".claude", moved)
    before = tree(home)
    words = ("--hooks", "--client", "claude-code")
    assert call(home, "wrap", *words, CLAUDE_CONFIG_DIR=str(moved))[0] == 0
    assert {path for path, raw in tree(home).items() if before.get(path) != raw} == {
        moved / "settings.json", moved / "settings.json.before-scopekeeper"
    }  # fmt: skip


def test_a_client_that_is_not_there_is_left_out_or_named(home, tmp_path):
    shutil.rmtree(home / ".gemini")
    status, out, _ = call(home, "wrap", "--hooks")
    assert (status, "gemini" in out, (home / ".gemini").exists()) == (0, False, False)
    status, _, err = call(home, "wrap", "--hooks", "--client", "gemini")
    assert (status, "Traceback" in err) == (1, False)
    assert f"{home}/.gemini: No such file or directory; start Gemini CLI once" in err
    nobody = tmp_path / "nobody"
    nobody.mkdir()
    assert call(nobody, "wrap", "--hooks")[:2] == (0, "No client with hooks was found.\n")
    assert call(nobody, "unwrap", "--hooks")[:2] == (0, "No hook of scopekeeper is registered.\n")


def _switched_off(path):
    path.write_text('{"hooksConfig": {"enabled": false}}')


def _broken(path):
    path.write_text('{"hooks": {,}}')


def _read_only(path):
    path.chmod(0o400)
    store = path.with_name("store.json")
    path.rename(store)
    path.symlink_to(store)


def _twice(path):
    os.link(path, path.with_name("other.json"))


def _folder(path):
    path.unlink()
    path.mkdir()


def _nowhere(path):
    path.unlink()
    path.symlink_to("nowhere.json")


def _not_utf8(path):
    path.write_bytes(b'{"a": "\xff"}')


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_switched_off, "its hooks are switched off: hooksConfig.enabled is false"),
        (_broken, ":1:12: "),
        (_read_only, "is read-only"),
        (_twice, "has 2 hard links"),
        (_folder, "Is a directory"),
        (_nowhere, "No such file or directory"),
        (_not_utf8, ":1:8: this is not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_changed_is_refused_with_one_line(home, make, words):
    path = home / ".gemini/settings.json"
    make(path)
    before = tree(home)
    status, _, err = call(home, "wrap", "--hooks", "--client", "gemini")
    assert (status, len(err.splitlines()), tree(home)) == (1, 1, before)
    assert err.startswith(f"scopekeeper: {path}")
    assert words in err
    status, _, err = call(home, "wrap", "--hooks")  # the others are written all the same
    assert (status, "hook claude" in (home / ".claude/settings.json").read_text()) == (1, True)
    if make not in (_switched_off, _read_only, _twice):
        assert call(home, "wrap", "--hooks", "--check", "--client", "gemini")[0] == 2
    if make is _broken:  # nothing of ours is in it, so nothing has to be undone
        assert call(home, "unwrap", "--hooks")[0] == 0


@pytest.mark.parametrize("words", [
    ["wrap", "--hooks", "a.json"], ["wrap", "--hooks", "--only", "a"],
    ["wrap", "--hooks", "--format", "codex", "a"], ["wrap", "--hooks", "--memory-max", "1G"],
    ["wrap", "--hooks", "--client", "cursor"], ["unwrap", "--hooks", "a.json"],
    ["unwrap", "--hooks", "--except", "a"], ["unwrap", "--hooks", "--client", "zed"],
    ["wrap", "--hooks", "--check", "--update"], ["wrap", "--hooks", "--program", "/bin/true"],
])  # fmt: skip
def test_what_does_not_go_together_is_refused(home, words):
    before = tree(home)
    status, out, err = call(home, *words)
    assert (status, out, len(err.splitlines()), tree(home)) == (2, "", 1, before)


def test_a_launcher_that_is_gone_is_reported_and_replaced(home, monkeypatch):
    gone, here = launcher(home / "gone"), launcher(home / "here")
    call(home, "wrap", "--hooks", "--client", "gemini", "--program", gone)
    monkeypatch.setenv("HOME", str(home))
    good = list(client_hooks.launchers())
    assert [(each.check, each.status) for each in good] == [("hooks", Status.OK)]
    gone.unlink()
    remedy = "scopekeeper wrap --hooks --update --client gemini"
    path = home / ".gemini/settings.json"
    (bad,) = client_hooks.launchers()
    assert (bad.status, bad.fix) == (Status.LIMIT, remedy)
    assert bad.detail.startswith(f"{path}: SessionStart, SessionEnd: there is no {gone}")
    status, out, _ = call(home, "wrap", "--hooks", "--check", "--client", "gemini")
    assert (status, out.count("launcher missing"), remedy in out) == (1, 2, True)
    status, _, err = call(home, "wrap", "--hooks", "--client", "gemini")
    assert (status, f"{path}: SessionEnd: there is no {gone}" in err) == (1, True)
    status, out, err = call(home, *shlex.split(remedy)[1:], "--program", here)
    assert (status, out.count(" updated "), err) == (0, 2, "")
    assert path.read_text().count(f"{here} hook gemini ") == 2
    assert call(home, "wrap", "--hooks", "--check", "--client", "gemini")[0] == 0
    call(home, "unwrap", "--hooks")
    assert path.read_bytes() == (SAMPLES / "gemini.json").read_bytes()


def test_hooks_that_are_left_are_named_with_the_command(home, monkeypatch):
    monkeypatch.setenv("HOME", str(home))
    assert hooks_left.sentences(hooks_left.files_with_hooks()) == []
    call(home, "wrap", "--hooks", "--client", "codex")
    left = hooks_left.files_with_hooks()
    sentence = f"2 hooks are still registered in {home}/.codex/config.toml; run "
    assert hooks_left.sentences(left) == [f"{sentence}`scopekeeper unwrap --hooks`"]
    assert hooks_left.documents(left) == [{
        "path": f"{home}/.codex/config.toml", "events": ["SessionStart", "SessionEnd"],
        "command": "scopekeeper unwrap --hooks",
    }]  # fmt: skip


def commands(home):
    """Return each command that is registered, as the client's own format has it."""
    read = json.loads((home / ".claude/settings.json").read_text())["hooks"]["SessionEnd"]
    yield "claude SessionEnd", read[-1]["hooks"][0]["command"]
    read = json.loads((home / ".copilot/hooks/scopekeeper.json").read_text())["hooks"]
    yield "copilot sessionEnd", read["sessionEnd"][0]["bash"]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_starts_the_launcher_and_nothing_fails_without_it(home, shell):
    program, called = launcher(home / 'it\'s a "$HOME"'), home / "called"
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "CALLED": str(called)}
    assert call(home, "wrap", "--hooks", "--program", program)[0] == 0
    for words, command in commands(home):
        subprocess.run([shell, "-c", command], input='{"a": 1}', text=True, check=True,
                       env=environment)  # fmt: skip
        assert called.read_text().splitlines() == ["hook", *words.split(), '{"a": 1}']
        called.unlink()
    program.unlink()
    for _, command in commands(home):
        ran = subprocess.run([shell, "-c", command], input="", capture_output=True, text=True,
                             env=environment)  # fmt: skip
        assert (ran.returncode, ran.stdout, ran.stderr, called.exists()) == (0, "", "", False)


def test_a_client_without_a_shell_gets_the_words_of_the_command(home):
    program, called = launcher(home / "it's a"), home / "called"
    call(home, "wrap", "--hooks", "--client", "hermes", "--program", program)
    last = (home / ".hermes/config.yaml").read_text().split("- command: ")[-1].split("\n")[0]
    subprocess.run(shlex.split(json.loads(last)), input="", text=True, check=True,
                   env={"CALLED": str(called), "PATH": os.environ["PATH"]})  # fmt: skip
    assert called.read_text().splitlines() == ["hook", "hermes", "on_session_finalize"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", "1:1: the whole is not an object"),
        ('{"hooks": 7}', "1:11: hooks is not an object"),
        ('{"hooks": {"SessionEnd": {}}}', "1:26: hooks.SessionEnd is not a list"),
    ],
)
def test_a_file_that_can_have_no_hook_cannot_be_checked(tmp_path, text, reason):
    path = tmp_path / ".claude/settings.json"
    path.parent.mkdir()
    path.write_text(text)
    status, out, err = call(tmp_path, "wrap", "--hooks", "--check")
    assert (status, out, err) == (2, "", f"scopekeeper: {path}:{reason}\n")


def test_a_launcher_that_is_not_there_is_refused(home):
    before = tree(home)
    status, out, err = call(home, "wrap", "--hooks", "--program", "/nonexistent/scopekeeper")
    assert (status, out, tree(home)) == (2, "", before)
    assert "there is no such program" in err
