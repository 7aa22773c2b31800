"""What a writer leaves that was killed before its rename goes with the next change."""

import os
import signal
import subprocess
import sys

import pytest

from scopekeeper import unfinished_files
from scopekeeper.mcp_configs import files
from tests.machine import eventually
from tests.unit.test_cli_wrap import ROOT, SIMPLE, call

NAME = ".scopekeeper-0123456789ab.tmp"
WRITER = """
import os, sys, time
from scopekeeper.mcp_configs import files
def rename(*_, **__):
    print("ready", flush=True)
    time.sleep(600)
os.rename = rename
original = files.read(sys.argv[1])
files.replace(original, b"{}")
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / ".mcp.json"
    path.write_text(SIMPLE)
    return path


@pytest.fixture
def writer(path):
    """A writer that stands right before its rename."""
    child = subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE,
                             text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    assert child.stdout.readline() == "ready\n"
    yield child
    child.kill()
    child.wait()
    child.stdout.close()


def left(path):
    return [each for each in path.parent.iterdir() if each.name.startswith(".scopekeeper-")]


def removed(folder, owner=None):
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return unfinished_files.remove(descriptor, {os.geteuid() if owner is None else owner})
    finally:
        os.close(descriptor)


def test_that_of_a_killed_writer_goes_with_the_next_change(path, writer):
    (new,) = left(path)
    assert new.read_bytes() == b"{}"
    assert removed(path.parent) == []  # its writer lives
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert left(path) == [new]
    assert call(path.parent, "wrap", path)[0] == 0
    assert left(path) == []
    assert call(path.parent, "unwrap", path)[0] == 0
    assert path.read_text() == SIMPLE


def test_a_writer_that_waits_is_not_disturbed_by_a_change(path, writer):
    (new,) = left(path)
    other = path.with_name("other.json")
    other.write_text(SIMPLE)
    assert call(path.parent, "wrap", other)[0] == 0
    assert left(path) == [new]
    assert writer.poll() is None


def test_one_that_nobody_writes_goes_at_once(tmp_path):
    (tmp_path / NAME).write_text("x")
    assert removed(tmp_path) == [NAME]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", [".scopekeeper-0123456789ab.tmp~", ".scopekeeper-0123456789a.tmp", "mine.tmp",
             ".scopekeeper-0123456789AB.tmp", ".scopekeeper-gone.1", f"{NAME}\n"]
)  # fmt: skip
def test_a_file_of_another_name_stays(tmp_path, name):
    (tmp_path / name).write_text("x")
    assert removed(tmp_path) == []


def test_links_folders_and_fifos_of_its_name_stay(tmp_path):
    target = tmp_path / "target"
    target.write_text("x")
    names = [NAME.replace("ab", each) for each in ("01", "02", "03")]
    (tmp_path / names[0]).symlink_to(target)
    (tmp_path / names[1]).mkdir()
    os.mkfifo(tmp_path / names[2])
    assert removed(tmp_path) == []
    assert sorted(os.listdir(tmp_path)) == sorted([*names, "target"])


def test_that_of_another_user_stays(tmp_path):
    (tmp_path / NAME).write_text("x")
    assert removed(tmp_path, os.geteuid() + 1) == []


def test_nothing_stays_locked_or_open_after_a_change(path):
    before = len(os.listdir("/proc/self/fd"))
    files.replace(files.read(str(path)), b"{}")
    assert eventually(lambda: len(os.listdir("/proc/self/fd")) == before)
    assert left(path) == []


UNNAMED = """
import os, sys, time
from scopekeeper import whole_file
def fsync(_):
    print("ready", flush=True)
    time.sleep(600)
os.fsync = fsync
whole_file.replace(sys.argv[1], b"secret", durable=True)
"""


def killed(path, *, named=False):
    """Kill a writer that has its content, and has not synced it yet."""
    before = "import os; os.O_TMPFILE = 0\n" if named else ""
    child = subprocess.Popen([sys.executable, "-c", before + UNNAMED, path], stdout=subprocess.PIPE,
                             text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    with child.stdout:
        assert child.stdout.readline() == "ready\n"
        there = left(path)
        assert removed(path.parent) == []  # its writer lives
        child.kill()
        child.wait()
    return there


def test_a_writer_that_is_killed_before_its_file_is_whole_leaves_nothing(path):
    assert killed(path) == []
    assert os.listdir(path.parent) == [path.name]


def test_one_with_a_name_from_the_start_goes_once_its_writer_is_dead(path):
    (new,) = killed(path, named=True)
    assert new.read_bytes() == b"secret"
    assert removed(path.parent) == [new.name]
    assert path.read_text() == SIMPLE


@pytest.mark.parametrize("words", [["wrap", "--hooks"], ["unwrap"], ["unwrap", "--hooks"]])
def test_those_of_a_file_that_stays_as_it_is_go_too(tmp_path, words):
    settings = tmp_path / ".claude/settings.json"
    settings.parent.mkdir()
    settings.write_text("{}")
    (settings.parent / NAME).write_text("secret")
    (tmp_path / ".claude.json").write_text("{}")
    if "unwrap" in words and "--hooks" not in words:
        (tmp_path / NAME).write_text("secret")
    assert call(tmp_path, *words, "--dry-run")[0] == 0
    assert (settings.parent / NAME).exists()
    assert call(tmp_path, *words)[0] == 0
    assert not (settings.parent / NAME).exists()
    assert not (tmp_path / NAME).exists()


def test_a_backup_below_the_state_folder_is_looked_at_too(path, tmp_path):
    (tmp_path / ".git").mkdir()
    assert call(tmp_path, "wrap", path)[0] == 0
    (stored,) = (tmp_path / "state").rglob(".mcp.json")
    (stored.parent / NAME).write_text("secret")
    assert call(tmp_path, "wrap", path)[0] == 0
    assert not (stored.parent / NAME).exists()
