"""``setup`` names what it cannot write before it asks, and does the rest.

Mounts, and folders that root may not write, are in tests/systemd/test_setup_read_only.py.
"""

import os
import re
import shutil

import pytest

from scopekeeper.errors import StateError
from scopekeeper.setup import writable
from tests.unit.test_cli_setup import call, cursor, home, tree  # noqa: F401  fixtures
from tests.unit.test_cli_wrap import SIMPLE

AS_USER = pytest.mark.skipif(not os.geteuid(), reason="root may write everywhere")


@pytest.fixture
def qwen(home):  # noqa: F811
    """Another client, whose file can be written."""
    path = home / ".qwen/settings.json"
    path.parent.mkdir()
    path.write_text(SIMPLE)
    return path


def in_a_store(path):
    store = path.parent.parent / "store"
    store.mkdir()
    (store / "mcp.json").write_bytes(path.read_bytes())
    (store / "mcp.json").chmod(0o444)
    path.unlink()
    path.symlink_to(store / "mcp.json")


WAYS = {
    "store": (
        in_a_store,
        "is a link to .*store/mcp.json, which is read-only change it in what generates it, such",
    ),
    "hard link": (
        lambda path: os.link(path, path.with_name("other")),
        "has 2 hard links the other links would keep the old text",
    ),
    "file": (
        lambda path: path.chmod(0o444),
        "may not be written make it writable, then: scopekeeper wrap /.*/mcp.json",
    ),
    "folder": (
        lambda path: path.parent.chmod(0o555),
        "is in a folder that may not be written make it writable, then",
    ),
}


@pytest.mark.parametrize(
    ("make", "words"),
    [pytest.param(*WAYS[name], id=name, marks=AS_USER if name in ("file", "folder") else ())
     for name in WAYS],
)  # fmt: skip
def test_it_is_named_before_the_question_and_the_rest_is_done(
    cursor, qwen, home, call, make, words  # noqa: F811
):  # fmt: skip
    make(cursor)
    before = tree(home)
    out = " ".join(call("--dry-run")[1].split())
    assert re.search(rf"Cursor: 2 servers are not wrapped: ~/.cursor/mcp.json {words}", out)
    assert not re.search("Cursor wrap 2", out)
    status, out, err = call("--yes")
    assert (status, err) == (0, "")
    assert "Cursor: 2 servers" in out
    assert cursor.read_text() == SIMPLE
    assert "scopekeeper" in qwen.read_text()
    assert call("--undo")[0] == 0
    assert tree(home) == before
    cursor.parent.chmod(0o755)


def test_hooks_in_a_store_are_named(home, call):  # noqa: F811
    path = home / ".claude/settings.json"
    path.parent.mkdir()
    path.write_text("{}")
    in_a_store(path)
    before = tree(home)
    status, out, _ = call("--yes", "--shell-commands")
    assert status == 0
    assert "Claude Code hooks: ~/.claude/settings.json is a link to " in out
    outside = "Claude Code shell commands: its shell commands run in no scope"
    assert f"{outside}: ~/.claude/settings.json is a link to " in out
    assert tree(home) == before


@AS_USER
def test_without_a_place_for_its_record_it_changes_nothing(cursor, home, call):  # noqa: F811
    (home / ".local").mkdir(0o555)
    with pytest.raises(StateError, match=r"cannot be recorded: .*/\.local may not be written"):
        call("--yes")
    assert cursor.read_text() == SIMPLE
    assert call("--undo")[0] == 0
    shutil.rmtree(home / ".local")


def test_a_record_in_place_of_a_folder_is_refused_before_the_question(
    cursor, home, call, capsys  # noqa: F811
):  # fmt: skip
    (home / ".local").write_text("no folder")
    with pytest.raises(StateError, match=r"scopekeeper: Not a directory"):
        call("--yes")
    assert capsys.readouterr().out == ""
    assert cursor.read_text() == SIMPLE


def test_what_is_made_needs_the_nearest_folder_that_there_is(tmp_path):
    assert writable.why_not([f"{tmp_path}/a/b/c", f"{tmp_path}/d"]) == ""
    (tmp_path / "a").write_text("")
    assert writable.why_not([f"{tmp_path}/d", f"{tmp_path}/a/b/c"]) == f"{tmp_path}/a is no folder"
    (tmp_path / "l").symlink_to("/nowhere")
    assert writable.why_not([f"{tmp_path}/l/x"]) == f"{tmp_path}/l is no folder"
