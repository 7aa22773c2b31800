"""The plugin for Claude Code: its files are those that the client reads, its hook harms nobody.

What the hook itself does is in test_hook.py.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from scopekeeper.version import __version__
from tests.machine import text_of

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "scopekeeper/clients/claude_code"
PLUGIN = CLIENT / "plugin"
KEBAB = r"[a-z][a-z0-9]*(-[a-z0-9]+)*"
END = {"session_id": "5e0c21ab", "hook_event_name": "SessionEnd", "reason": "prompt_input_exit"}


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


# the files


def test_the_manifest_has_the_fields_that_the_client_reads():
    manifest = load(PLUGIN / ".claude-plugin/plugin.json")
    assert re.fullmatch(KEBAB, manifest["name"])
    assert manifest["version"] == __version__, "clients update when it changes"
    assert set(manifest) <= {"name", "version", "description", "author", "homepage", "repository",
                             "license", "keywords"}  # fmt: skip
    assert set(manifest["author"]) == {"name"}
    assert all(isinstance(each, str) for each in manifest["keywords"])
    assert len({type(manifest[key]) for key in ("name", "description", "license")}) == 1


@pytest.mark.parametrize("folder", [ROOT, CLIENT], ids=["repository", "package"])
def test_a_marketplace_leads_to_the_plugin(folder):
    market = load(folder / ".claude-plugin/marketplace.json")
    assert set(market) == {"name", "description", "owner", "plugins"}
    assert re.fullmatch(KEBAB, market["name"])
    assert market["owner"] == load(PLUGIN / ".claude-plugin/plugin.json")["author"]
    (entry,) = market["plugins"]
    source = entry.pop("source")
    assert source.startswith("./"), "else it is not a folder of the marketplace"
    assert ".." not in source
    assert (folder / source).samefile(PLUGIN)
    manifest = load(PLUGIN / ".claude-plugin/plugin.json")
    assert entry == {key: manifest[key] for key in ("name", "description")}


def test_both_marketplaces_are_the_same_one():
    one, other = (load(each / ".claude-plugin/marketplace.json") for each in (ROOT, CLIENT))
    for market in (one, other):
        market["plugins"][0].pop("source")
    assert one == other


def test_the_only_hook_is_the_end_of_a_session():
    assert sorted(each.name for each in (PLUGIN / ".claude-plugin").iterdir()) == ["plugin.json"]
    hooks = load(PLUGIN / "hooks/hooks.json")
    assert set(hooks) == {"description", "hooks"}
    ((event, (group,)),) = hooks["hooks"].items()
    assert (event, set(group)) == ("SessionEnd", {"hooks"})
    ((hook,)) = group["hooks"]
    assert set(hook) == {"type", "command"}
    assert hook["type"] == "command"
    assert "scopekeeper hook claude SessionEnd" in hook["command"]
    assert [each.name for each in (PLUGIN / "hooks").iterdir()] == ["hooks.json"]


def test_no_file_has_an_address():
    files = [each for each in CLIENT.rglob("*") if each.is_file() and each.suffix != ".pyc"]
    for path in (*files, ROOT / ".claude-plugin/marketplace.json"):
        assert "://" not in path.read_text(encoding="utf-8"), path


# the hook


@pytest.fixture
def end_session(tmp_path):
    """Return a function that runs the hook as Claude Code does, with this scopekeeper in PATH."""
    (command,) = [each["command"] for group in load(PLUGIN / "hooks/hooks.json")["hooks"].values()
                  for each in group[0]["hooks"]]  # fmt: skip
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "cat"):
        (programs / name).symlink_to(shutil.which(name))

    def run(body):
        program = programs / "scopekeeper"
        if body is not None:
            program.write_text(f"#!/bin/sh\n{body}\n")
            program.chmod(0o755)
        return subprocess.run(
            ["/bin/sh", "-c", command], input=json.dumps(END), env={"PATH": str(programs)},
            capture_output=True, text=True, timeout=300, start_new_session=True, cwd=tmp_path,
        )  # fmt: skip

    return run


def test_it_passes_the_event_on(end_session, tmp_path):
    done = end_session('echo "$*" > words; cat > event')
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert text_of(tmp_path / "words") == "hook claude SessionEnd\n"
    assert json.loads(text_of(tmp_path / "event")) == END


@pytest.mark.parametrize("body", [None, "echo loud; echo louder >&2; exit 2", "kill -9 $$"])
def test_a_missing_or_broken_scopekeeper_is_silent(end_session, tmp_path, body):
    done = end_session(body and f": > ran; {body}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "ran").exists() == bool(body)
