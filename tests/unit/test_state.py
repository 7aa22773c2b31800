"""The state directory is where it is said to be, its user's alone, and nothing else is changed."""

import os
import pwd

import pytest

from scopekeeper import state, users
from scopekeeper.errors import StateError
from scopekeeper.users import home_of

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what is another's")


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    for name in ("SCOPEKEEPER_STATE", "XDG_STATE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delitem(users.posix.environ, b"HOME", raising=False)


@pytest.fixture
def name(monkeypatch):
    """Give a hand that names a state folder, and returns which one is then used."""

    def use(path):
        monkeypatch.setenv("SCOPEKEEPER_STATE", str(path))
        return state.directory()

    return use


def mode_of(path):
    return path.stat().st_mode & 0o7777


def test_roots_is_in_var_lib_whatever_home_says(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("XDG_STATE_HOME", "/home/somebody/state")
    assert str(state._usual()) == "/var/lib/scopekeeper"


def test_a_users_is_at_the_home_that_the_password_database_has(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1)
    monkeypatch.setenv("HOME", "/home/x")
    monkeypatch.setitem(users.posix.environ, b"HOME", b"/home/x")
    expected = f"{pwd.getpwuid(1).pw_dir}/.local/state/scopekeeper"
    assert str(state.directory()) == expected
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert str(state.directory()) == expected
    monkeypatch.setenv("XDG_STATE_HOME", "/home/x/elsewhere")
    assert str(state.directory()) == "/home/x/elsewhere/scopekeeper"


def test_a_user_whom_the_database_does_not_have_is_at_home_where_home_says(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 3_999_999_999)
    with pytest.raises(StateError, match="SCOPEKEEPER_STATE"):
        state.directory()
    monkeypatch.setitem(users.posix.environ, b"HOME", b"/home/x")
    assert str(state.directory()) == "/home/x/.local/state/scopekeeper"


def test_every_user_of_the_machine_has_the_home_that_pwd_knows():
    for entry in pwd.getpwall():
        assert home_of(entry.pw_uid) == pwd.getpwuid(entry.pw_uid).pw_dir


def test_it_can_be_named_and_is_then_made(name, tmp_path):
    assert name(tmp_path / "a/b") == tmp_path / "a/b"
    assert not (tmp_path / "a").exists()
    before = os.umask(0o070)
    try:
        assert state.make() == tmp_path / "a/b"
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "a/b") == 0o700
    assert name(tmp_path / "a/b") == tmp_path / "a/b"


@pytest.mark.parametrize("mode", [0o755, 0o1777, 0o770, 0o711])
def test_a_folder_that_others_look_into_stays_as_it_is_and_has_ours_in_it(name, tmp_path, mode):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(mode)
    inner = shared / f"scopekeeper-{os.geteuid()}"
    for named in (shared, tmp_path / "link"):
        (tmp_path / "link").is_symlink() or (tmp_path / "link").symlink_to("shared")
        assert name(named).resolve() == inner
        assert state.make().resolve() == inner
    assert mode_of(shared) == mode
    assert mode_of(inner) == 0o700
    assert os.listdir(shared) == [inner.name]


def test_one_that_was_ours_before_is_found_again_whatever_its_mode_is(name, tmp_path):
    for mode in (0o700, 0o755):
        tmp_path.chmod(mode)
        (tmp_path / "history.db").touch()
        assert name(tmp_path) == tmp_path
        assert state.make() == tmp_path
        assert mode_of(tmp_path) == mode, "it was changed"
    tmp_path.chmod(0o777)
    with pytest.raises(StateError, match="written by others"):
        name(tmp_path)


def test_what_is_no_folder_of_ours_is_refused(name, tmp_path):
    tmp_path.chmod(0o755)
    inner = tmp_path / f"scopekeeper-{os.geteuid()}"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(0o700)
    inner.symlink_to(elsewhere)
    with pytest.raises(StateError, match="symbolic link"):
        name(tmp_path)
    inner.unlink()
    inner.mkdir()
    inner.chmod(0o775)
    with pytest.raises(StateError, match="written by others"):
        name(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "loose").symlink_to("nowhere")
    for path, words in (("file", "Not a directory"), ("file/x", "Not a directory"),
                        ("loose", "a link to nothing"), ("x" * 300, "too long")):  # fmt: skip
        with pytest.raises(StateError, match=words):
            name(tmp_path / path)


@AS_ROOT
def test_that_of_another_user_is_not_used(name, tmp_path):
    mine, theirs, link = (tmp_path / each for each in ("mine", "theirs", "link"))
    mine.mkdir(0o700)
    theirs.mkdir(0o755)
    os.chown(theirs, 1, 1)
    link.symlink_to(mine)
    os.lchown(link, 1, 1)
    for path in (theirs, link):
        with pytest.raises(StateError, match="uid 1"):
            name(path)
        with pytest.raises(StateError, match="uid 1"):
            state.make()
    inner = mine / "scopekeeper-0"
    mine.chmod(0o755)
    inner.mkdir(0o700)
    os.chown(inner, 1, 1)
    with pytest.raises(StateError, match="uid 1"):
        name(mine)


def test_a_relative_name_is_refused(monkeypatch):
    monkeypatch.setenv("SCOPEKEEPER_STATE", "here")
    with pytest.raises(StateError, match="whole path"):
        state.directory()
