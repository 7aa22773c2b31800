"""A tree is removed whole, whatever is in it, and nothing outside of it is touched."""

import errno
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scopekeeper.kernel import mounts
from scopekeeper.owned import tree
from scopekeeper.owned.claim import Claim, Holder, Kind

NAMES = st.binary(min_size=1, max_size=12).filter(
    lambda b: not {0, 47}.intersection(b) and b not in (b".", b"..")
)
LEAVES = st.sampled_from(["file", "link out", "link in", "loop", "hard link", "pipe", "secret"])
TREES = st.recursive(
    LEAVES,
    lambda inner: st.tuples(
        st.dictionaries(NAMES, inner, max_size=4), st.sampled_from([0o755, 0o555, 0o000, 0o300])
    ),
    max_leaves=12,
)


def claim_of(path, name="0" * 16):
    parent = os.open(os.path.dirname(path), os.O_PATH)
    thing = tree.identify(parent, os.path.basename(os.fsencode(path)))
    os.close(parent)
    text = os.fsencode(path).decode("utf-8", "surrogateescape")
    return Claim(name, text, thing, Holder(Kind.NOBODY, "boot"), 1)


def remove(claim):
    what = tree.set_aside(claim, same_boot=True)
    if what == "aside":
        tree.finish(claim)
    return what


def build(path, what, outside):
    if isinstance(what, tuple):
        content, mode = what
        os.mkdir(path)
        for name, inner in content.items():
            build(path + b"/" + name, inner, outside)
        os.chmod(path, mode)
    elif what == "link out":
        os.symlink(outside, path)
    elif what == "link in":
        os.symlink(b"..", path)
    elif what == "loop":
        os.symlink(os.path.basename(path), path)
    elif what == "hard link":
        os.link(os.path.join(outside, b"kept"), path)
    elif what == "pipe":
        os.mkfifo(path)
    else:
        with open(path, "wb"):
            os.chmod(path, 0o000 if what == "secret" else 0o644)


@pytest.fixture
def outside(tmp_path):
    """A folder that has to be there afterwards as it was."""
    folder = tmp_path / "outside"
    (folder / "inner").mkdir(parents=True)
    (folder / "kept").write_text("kept")
    (folder / "inner" / "kept").write_text("kept")
    mode = (folder / "inner").stat().st_mode
    yield folder
    assert (folder / "kept").read_text() == "kept"
    assert (folder / "inner" / "kept").read_text() == "kept"
    assert (folder / "inner").stat().st_mode == mode


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(name=NAMES, what=TREES)
def test_any_tree_is_removed_and_nothing_else(tmp_path, outside, name, what):
    room = tmp_path / "room"
    room.mkdir(exist_ok=True)
    path = os.fsencode(room) + b"/" + name
    build(path, what, os.fsencode(outside))
    assert remove(claim_of(os.fsdecode(path))) == "aside"
    assert os.listdir(room) == []


def test_a_tree_deeper_than_descriptors_and_names_go(tmp_path):
    path = tmp_path / "deep"
    path.mkdir()
    inner = os.open(path, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=inner)
        below = os.open("d", os.O_RDONLY, dir_fd=inner)
        os.close(inner)
        inner = below
    os.close(inner)
    assert remove(claim_of(path)) == "aside"
    assert os.listdir(tmp_path) == []


def test_another_thing_at_the_path_is_left(tmp_path):
    path = tmp_path / "x"
    path.mkdir()
    claim = claim_of(path)
    path.rename(tmp_path / "moved")
    path.mkdir()
    (path / "new").touch()
    assert remove(claim) == "changed"
    assert (path / "new").exists()
    assert (tmp_path / "moved").exists()


def test_what_is_gone_is_gone(tmp_path):
    path = tmp_path / "x" / "y"
    path.mkdir(parents=True)
    claim = claim_of(path)
    path.rmdir()
    assert remove(claim) == "gone"
    path.parent.rmdir()
    assert remove(claim) == "gone"


def test_a_link_that_was_put_on_the_way_is_not_followed(tmp_path, outside):
    path = tmp_path / "room" / "inner"
    path.mkdir(parents=True)
    claim = claim_of(path)
    (tmp_path / "room").rename(tmp_path / "was")
    (tmp_path / "room").symlink_to(outside)
    with pytest.raises(NotADirectoryError):
        remove(claim)
    (tmp_path / "room").unlink()
    (tmp_path / "was").rename(tmp_path / "room")
    path.rename(tmp_path / "was")
    path.symlink_to(outside)
    assert remove(claim) == "changed"


def test_a_thing_that_is_swapped_in_in_the_last_moment_is_put_back(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.mkdir()
    claim = claim_of(path)
    rename = os.rename

    def swap_first(source, target, **how):
        monkeypatch.setattr(tree.os, "rename", rename)
        path.rename(tmp_path / "moved")
        path.mkdir()
        (path / "precious").touch()
        rename(source, target, **how)

    monkeypatch.setattr(tree.os, "rename", swap_first)
    assert remove(claim) == "changed"
    assert (path / "precious").exists()


def test_a_thing_that_is_put_where_it_waits_is_left(tmp_path):
    path = tmp_path / "x"
    path.mkdir()
    claim = claim_of(path)
    assert tree.set_aside(claim, same_boot=True) == "aside"
    (tmp_path / claim.aside).rename(tmp_path / "moved")
    (tmp_path / claim.aside).mkdir()
    (tmp_path / claim.aside / "precious").touch()
    with pytest.raises(OSError, match="another thing"):
        tree.finish(claim)
    assert (tmp_path / claim.aside / "precious").exists()


def test_a_removal_that_was_begun_is_found_though_another_thing_stands_there(tmp_path):
    path = tmp_path / "x"
    path.mkdir()
    claim = claim_of(path)
    assert tree.set_aside(claim, same_boot=True) == "aside"
    path.mkdir()
    (path / "new").touch()
    assert remove(claim) == "aside"
    assert os.listdir(tmp_path) == ["x"]
    assert (path / "new").exists()


def test_it_stops_at_a_mount(tmp_path, monkeypatch):
    (tmp_path / "x" / "disk").mkdir(parents=True)
    (tmp_path / "x" / "disk" / "precious").touch()
    disk = (tmp_path / "x" / "disk").stat().st_ino
    real = mounts.of_descriptor
    monkeypatch.setattr(
        mounts, "of_descriptor", lambda fd: "disk" if os.fstat(fd).st_ino == disk else real(fd)
    )
    claim = claim_of(tmp_path / "x")
    with pytest.raises(OSError, match="mounted") as caught:
        remove(claim)
    assert caught.value.errno == errno.EBUSY
    assert (tmp_path / claim.aside / "disk" / "precious").exists()
