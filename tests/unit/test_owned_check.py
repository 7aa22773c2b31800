"""What may not be owned is refused, with the reason."""

import os
import pwd
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.errors import RefusedError
from scopekeeper.kernel import mounts
from scopekeeper.owned import check
from scopekeeper.owned.users import mentions


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state" / "scopekeeper"))
    monkeypatch.setenv("HOME", str(tmp_path / "homes" / "me"))
    (tmp_path / "homes" / "me").mkdir(parents=True)
    (tmp_path / "state" / "scopekeeper").mkdir(parents=True)


def refusal(path):
    with pytest.raises(RefusedError) as caught:
        check.examine(check.plain(str(path)))
    return str(caught.value)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "relative"),
        ("x", "relative"),
        ("./x", "relative"),
        ("~/x", "relative"),
        ("/", "the root"),
        ("//.", "the root"),
        ("/tmp", "at the top"),
        ("/etc/", "at the top"),
        ("/tmp/../etc/passwd", "'..'"),
        ("/tmp/no/such/thing", "No such file"),
        ("/tmp/no-such-thing", "no such file"),
    ],
)
def test_what_is_no_whole_path_to_something_is_refused(path, words):
    assert words in refusal(path)


@given(st.lists(st.sampled_from(["/", "//", "a", "b", ".", "..", "/./"])).map("".join))
def test_a_plain_path_has_nothing_that_could_lead_elsewhere(text):
    try:
        path = check.plain(text)
    except RefusedError:
        return
    assert text.startswith("/")
    assert not {"", ".", ".."}.intersection(path[1:].split("/"))
    assert path.count("/") >= 2
    assert os.path.normpath(text) in (path, "/" + path)


def test_a_home_folder_and_what_is_above_one(tmp_path):
    assert "a home folder" in refusal(tmp_path / "homes" / "me")
    assert "a home folder" in refusal(tmp_path / "homes")
    below = tmp_path / "homes" / "me" / "turn"
    below.mkdir()
    assert check.examine(str(below)).inode == below.stat().st_ino


def test_the_homes_of_others_count(tmp_path, monkeypatch):
    entry = pwd.struct_passwd(("o", "x", 1, 1, "", str(tmp_path / "theirs"), "/bin/sh"))
    monkeypatch.setattr(check.pwd, "getpwall", lambda: [entry])
    (tmp_path / "theirs").mkdir()
    assert "a home folder" in refusal(tmp_path / "theirs")


def test_what_we_keep_our_state_in(tmp_path):
    assert "keeps its state" in refusal(tmp_path / "state")
    assert "keeps its state" in refusal(tmp_path / "state" / "scopekeeper")


def test_a_symbolic_link_at_its_end_or_on_the_way(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").touch()
    (tmp_path / "link").symlink_to("real")
    assert f"symbolic link in it; give {tmp_path}/real" in refusal(tmp_path / "link")
    assert f"give {tmp_path}/real/file" in refusal(tmp_path / "link" / "file")
    (tmp_path / "dangling").symlink_to("nowhere")
    assert "symbolic link" in refusal(tmp_path / "dangling")
    assert "no such folder" in refusal(tmp_path / "real" / "file" / "x")


def test_what_belongs_to_another_uid(tmp_path, monkeypatch):
    (tmp_path / "theirs").mkdir()
    uid = os.geteuid()
    monkeypatch.setattr(check.state, "directory", lambda: tmp_path / "state")
    monkeypatch.setattr(check.os, "geteuid", lambda: uid + 1)
    assert f"belongs to uid {uid}, not to uid {uid + 1}" in refusal(tmp_path / "theirs")


def test_a_mount_point_and_what_is_above_one(tmp_path, monkeypatch):
    (tmp_path / "disk" / "inner").mkdir(parents=True)
    monkeypatch.setattr(mounts, "points", lambda: ["/", str(tmp_path / "disk" / "inner")])
    assert "is mounted" in refusal(tmp_path / "disk")
    assert "it is a mount point" in refusal(tmp_path / "disk" / "inner")


def test_a_folder_above_one_in_which_somebody_works(tmp_path):
    (tmp_path / "project" / "deep").mkdir(parents=True)
    with subprocess.Popen(["sleep", "100"], cwd=tmp_path / "project" / "deep") as worker:
        try:
            said = refusal(tmp_path / "project")
            assert "above a folder in use" in said
            assert str(worker.pid) in said
            assert check.examine(str(tmp_path / "project" / "deep"))
        finally:
            worker.kill()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_what_could_not_be_removed(tmp_path):
    (tmp_path / "closed" / "x").mkdir(parents=True)
    (tmp_path / "closed").chmod(0o555)
    try:
        assert "cannot be written" in refusal(tmp_path / "closed" / "x")
    finally:
        (tmp_path / "closed").chmod(0o755)


def test_files_sockets_and_pipes_may_be_owned(tmp_path):
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "secret").touch(0o000)
    for name in ("file", "pipe", "secret"):
        assert check.examine(f"{tmp_path}/{name}").inode == (tmp_path / name).stat().st_ino
    assert "a device" in refusal("/dev/null") or os.geteuid()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"/tmp/x", True),
        (b"--config=/tmp/x/y", True),
        (b"a:/tmp/x:b", True),
        (b"/tmp/xy\0/tmp/x\0", True),
        (b"/tmp/x.json", True),  # who knows; kept too long is better than removed too early
        (b"/tmp/xy", False),
        (b"/tmp/x-1", False),
        (b"", False),
    ],
)
def test_a_path_is_found_in_a_text(text, found):
    assert mentions(text, b"/tmp/x") is found
