"""A configuration is replaced whole, with all that belongs to it, or is as it was."""

import contextlib
import errno
import itertools
import os
import resource
import signal
import stat
import struct
import sys
import tempfile
from pathlib import Path

import pytest

from scopekeeper.errors import ConfigError
from scopekeeper.mcp_configs import files

ROOT = Path(__file__).parents[2]
OLD, NEW = b'{"old": 1}\n' * 50, b'{"new": 2}\n' * 60
needs_root = pytest.mark.root


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "folder" / "mcp.json"
    path.parent.mkdir()
    path.write_bytes(OLD)
    return path


def names(path):
    return sorted(os.listdir(path.parent))


def untouched(path):
    return names(path) == [path.name] and path.read_bytes() == OLD


def acl(user):
    """A POSIX ACL as the kernel has it: rw for the owner, r for one user more, the mask rw."""
    entries = [(0x01, 6, 0xFFFFFFFF), (0x02, 4, user), (0x04, 0, 0xFFFFFFFF),
               (0x10, 6, 0xFFFFFFFF), (0x20, 0, 0xFFFFFFFF)]  # fmt: skip
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def test_the_file_is_replaced_and_what_was_there_is_kept_beside_it(path):
    path.chmod(0o640)
    backup = files.replace(files.read(str(path)), NEW)
    assert path.read_bytes() == NEW
    assert backup == f"{path}.before-scopekeeper"
    assert Path(backup).read_bytes() == OLD
    assert [stat.S_IMODE(os.stat(each).st_mode) for each in (path, backup)] == [0o640, 0o640]
    assert names(path) == ["mcp.json", "mcp.json.before-scopekeeper"]


def change(path, new, **options):
    return files.replace(files.read(str(path)), new, **options)


def test_there_is_one_backup_and_what_nothing_else_has_is_never_overwritten(path):
    backup = Path(f"{path}.before-scopekeeper")
    assert [change(path, new) for new in (NEW, b"3")] == [str(backup)] * 2
    assert backup.read_bytes() == OLD
    assert change(path, b"4", is_outdated=lambda old: old == OLD) == str(backup)
    assert (backup.read_bytes(), path.read_bytes()) == (b"3", b"4")
    assert names(path) == [path.name, backup.name]


def test_what_is_no_file_but_has_the_name_of_the_backup_is_refused(path):
    backup = Path(f"{path}.before-scopekeeper")
    backup.symlink_to("/nonexistent")
    with pytest.raises(ConfigError, match=r"before-scopekeeper: is in the way of the backup"):
        change(path, NEW)
    assert path.read_bytes() == OLD
    assert names(path) == [path.name, backup.name]


@pytest.fixture
def state(tmp_path, monkeypatch):
    """The folder that the backups of files in git work trees are in."""
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def test_the_backup_of_a_file_in_a_git_work_tree_is_private_and_not_in_it(path, state):
    (path.parents[1] / ".git").mkdir()
    path.chmod(0o644)
    backup = Path(change(path, NEW))
    assert backup == state / "backups" / path.relative_to("/")
    assert (backup.read_bytes(), names(path)) == (OLD, [path.name])
    for each in (backup, *backup.parents[: len(path.parents)]):
        assert stat.S_IMODE(each.stat().st_mode) & 0o077 == 0, each
    assert change(path, b"3", again=True) == str(backup)
    assert files.drop_backups(files.read(str(path)), b"3") == ([], [str(backup)])
    path.write_bytes(OLD)
    assert files.drop_backups(files.read(str(path)), OLD) == ([str(backup)], [])
    assert os.listdir(state) == []


def test_a_backup_is_found_wherever_an_earlier_one_was_put(path, state):
    """The file came into a work tree, or left it, after it was rewritten."""
    beside = [Path(change(path, NEW)), path.with_name("mcp.json.before-scopekeeper-2")]
    beside[1].write_bytes(b"2")
    (path.parent / ".git").mkdir()
    assert change(path, b"3", again=True) == str(beside[0])
    stored = change(path, b"4")
    assert stored.startswith(str(state))
    (path.parent / ".git").rmdir()
    removed, kept = files.drop_backups(
        files.read(str(path)), b"4", is_outdated=lambda old: old in (OLD, b"3")
    )
    assert (removed, kept) == ([stored, str(beside[0])], [str(beside[1])])


@pytest.mark.parametrize("what", ["a file", "a file in it"])
def test_without_a_place_for_the_backup_nothing_is_changed(path, state, what):
    (path.parent / ".git").mkdir()
    if what == "a file":
        state.write_text("")
    else:
        state.mkdir(0o700)
        (state / "backups").write_text("")
    with pytest.raises(ConfigError, match="nothing was changed: no place for its backup"):
        change(path, NEW)
    assert path.read_bytes() == OLD


def test_without_hard_links_the_backup_is_made_all_the_same(path, monkeypatch):
    """As on FAT, which cannot be had here without mounting it."""

    def link(*_, **__):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)
    path.chmod(0o640)
    backup = Path(files.replace(files.read(str(path)), NEW))
    assert (path.read_bytes(), backup.read_bytes()) == (NEW, OLD)
    assert stat.S_IMODE(backup.stat().st_mode) == 0o640
    assert names(path) == ["mcp.json", "mcp.json.before-scopekeeper"]


def test_a_link_stays_and_the_file_behind_it_is_replaced(path, tmp_path):
    link = tmp_path / "link.json"
    (tmp_path / "middle").symlink_to("folder/mcp.json")
    link.symlink_to("middle")
    backup = files.replace(files.read(str(link)), NEW)
    assert os.readlink(link) == "middle"
    assert os.readlink(tmp_path / "middle") == "folder/mcp.json"
    assert path.read_bytes() == NEW
    assert os.path.dirname(backup) == str(path.parent)


@pytest.mark.parametrize("name", ["user.comment", "system.posix_acl_access"])
def test_attributes_are_kept(path, name):
    value = acl(1) if name.startswith("system") else b"kept"
    try:
        os.setxattr(path, name, value)
    except OSError as error:
        pytest.skip(f"no {name} on this filesystem: {error}")
    backup = files.replace(files.read(str(path)), NEW)
    assert os.getxattr(path, name) == os.getxattr(backup, name) == value


@needs_root
def test_the_file_of_another_user_stays_hers(path):
    os.chown(path, 12345, 12346)
    path.chmod(0o600)
    backup = files.replace(files.read(str(path)), NEW)
    for each in (path, backup):
        status = os.stat(each)
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (12345, 12346, 0o600)


def change_in_place(path):
    with path.open("r+b") as file:
        file.write(b"X")


def replace_by_the_same(path):
    other = path.with_name("other")
    other.write_bytes(OLD)
    other.rename(path)


@pytest.mark.parametrize("change", [change_in_place, replace_by_the_same, Path.unlink])
def test_a_file_that_changed_since_it_was_read_is_left(path, change):
    original = files.read(str(path))
    change(path)
    changed = path.read_bytes() if path.exists() else None
    with pytest.raises(ConfigError, match="changed while it was worked on; nothing was written"):
        files.replace(original, NEW)
    assert (path.read_bytes() if path.exists() else None) == changed
    assert names(path) == ([] if changed is None else [path.name])


def test_a_change_while_the_new_text_is_written_is_seen_too(path, capfd):
    """A client writes its file in the very moment in which the backup gets its name."""

    def work():
        def hook(event, _):
            if event == "os.link":
                change_in_place(path)

        original = files.read(str(path))
        sys.addaudithook(hook)
        files.replace(original, NEW)

    assert os.waitstatus_to_exitcode(in_child(work)) == 1
    assert "changed while it was worked on; nothing was written" in capfd.readouterr().err
    assert names(path) == [path.name]
    assert path.read_bytes() == b"X" + OLD[1:]


def test_a_link_that_points_elsewhere_now_is_left(path, tmp_path):
    link, other = tmp_path / "link.json", tmp_path / "other.json"
    other.write_bytes(OLD)
    link.symlink_to(path)
    original = files.read(str(link))
    link.unlink()
    link.symlink_to(other)
    with pytest.raises(ConfigError, match="changed"):
        files.replace(original, NEW)
    assert untouched(path)
    assert other.read_bytes() == OLD


def test_one_of_several_hard_links_is_refused(path, tmp_path):
    os.link(path, tmp_path / "second")
    with pytest.raises(ConfigError, match="has 2 hard links"):
        files.replace(files.read(str(path)), NEW)
    assert untouched(path)


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    for name, words in [
        ("fifo", "not a file"), (".", "Is a directory"), ("loop", "Too many levels"),
        ("missing", "No such file"), ("fifo/x", "Not a directory"),
    ]:  # fmt: skip
        with pytest.raises(ConfigError, match=words):
            files.read(str(tmp_path / name))


def test_bytes_that_are_no_text_are_told_with_their_place(path):
    path.write_bytes(b"{\n\xc3\xa9 \xff}")
    with pytest.raises(ConfigError, match=r"mcp.json:2:3: this is not UTF-8"):
        files.read(str(path)).text()


def in_child(work):
    """Do some work in a child; return its wait status."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except ConfigError as error:
            os.write(2, f"{error}\n".encode())
            os._exit(1)
        finally:
            os._exit(2)
    return os.waitpid(child, 0)[1]


def test_without_room_nothing_is_changed(path, capfd):
    """The limit of a file's size makes every write beyond it fail, as a full disk does."""

    def work():
        original = files.read(str(path))
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(OLD) + 10, len(OLD) + 10))
        files.replace(original, NEW)

    assert os.waitstatus_to_exitcode(in_child(work)) == 1
    assert "nothing was changed: File too large" in capfd.readouterr().err
    assert untouched(path)


@pytest.fixture
def reachable():
    """A file that another user can come to: pytest's own folders cannot be entered."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = Path(folder, "folder", "mcp.json")
        path.parent.mkdir()
        path.write_bytes(OLD)
        yield path


def as_other(path):
    """Replace as a user without any rights of her own; return the exit status."""

    def work():
        os.setgroups([])
        os.setgid(12345)
        os.setuid(12345)
        files.replace(files.read(str(path)), NEW)
        os._exit(0)

    return os.waitstatus_to_exitcode(in_child(work))


@needs_root
@pytest.mark.parametrize(
    ("file_mode", "folder_mode", "words"),
    [(0o644, 0o777, "may not be written"), (0o666, 0o755, "nothing was changed: Permission")],
)
def test_who_may_not_write_is_refused(reachable, capfd, file_mode, folder_mode, words):
    reachable.parent.chmod(folder_mode)
    reachable.chmod(file_mode)
    assert as_other(reachable) == 1
    assert words in capfd.readouterr().err
    assert untouched(reachable)


@needs_root
def test_where_the_group_cannot_be_kept_no_other_gains_by_it(reachable):
    reachable.parent.chmod(0o777)
    os.chown(reachable, 12345, 12346)
    reachable.chmod(0o660)
    with contextlib.suppress(OSError):  # a filesystem without
        os.setxattr(reachable, "system.posix_acl_access", acl(1))
    assert as_other(reachable) == 0
    status = reachable.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (12345, 12345, 0o600)


_CHANGES = ("os.rename", "os.remove", "os.link", "os.chmod", "os.chown", "os.setxattr")


def dies_at(step, work):
    """Do some work in a child that is killed before its change of that number; did it die?"""

    def mortal():
        seen = itertools.count()

        def hook(event, arguments):
            written = event == "open" and arguments[2] & (os.O_CREAT | os.O_WRONLY)
            if (event in _CHANGES or written) and next(seen) == step:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        work()

    return os.WIFSIGNALED(in_child(mortal))


def test_killed_at_any_moment_the_file_is_whole_and_nothing_is_lost(path):
    for step in itertools.count():
        for each in path.parent.iterdir():
            each.unlink()
        path.write_bytes(OLD)
        died = dies_at(step, lambda: files.replace(files.read(str(path)), NEW))
        backup = Path(f"{path}.before-scopekeeper")
        assert path.read_bytes() in (OLD, NEW)
        if path.read_bytes() == NEW or backup.exists():
            assert backup.read_bytes() == OLD
        if not died:
            break
        if path.read_bytes() == OLD:  # the next one brings it to its end
            files.replace(files.read(str(path)), NEW)
            assert (path.read_bytes(), backup.read_bytes()) == (NEW, OLD)
    assert step > 6
    assert path.read_bytes() == NEW
