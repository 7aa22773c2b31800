"""The state directory is where it is said to be, and its user's alone."""

import os
import pwd

import pytest

from scopekeeper import state
from scopekeeper.errors import StateError


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    for name in ("SCOPEKEEPER_STATE", "XDG_STATE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)


def test_roots_is_in_var_lib_whatever_home_says(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("XDG_STATE_HOME", "/home/somebody/state")
    assert str(state.directory()) == "/var/lib/scopekeeper"


def test_a_users_is_at_home(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1)
    assert str(state.directory()) == f"{pwd.getpwuid(1).pw_dir}/.local/state/scopekeeper"
    monkeypatch.setenv("HOME", "/home/x")
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert str(state.directory()) == "/home/x/.local/state/scopekeeper"
    monkeypatch.setenv("XDG_STATE_HOME", "/home/x/elsewhere")
    assert str(state.directory()) == "/home/x/elsewhere/scopekeeper"


def test_a_user_without_a_home_is_told_what_to_do(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 3_999_999_999)
    with pytest.raises(StateError, match="SCOPEKEEPER_STATE"):
        state.directory()


def test_it_can_be_named(monkeypatch, tmp_path):
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "a/b"))
    assert state.directory() == tmp_path / "a/b"
    assert not (tmp_path / "a").exists()
    before = os.umask(0)
    try:
        assert state.make() == tmp_path / "a/b"
    finally:
        os.umask(before)
    assert state.directory().stat().st_mode & 0o777 == 0o700
    state.directory().chmod(0o755)
    assert state.make().stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what is another's")
def test_that_of_another_user_is_not_used(monkeypatch, tmp_path):
    os.chown(tmp_path, 1, 1)
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path))
    with pytest.raises(StateError, match="uid 1"):
        state.make()


def test_a_relative_name_is_refused(monkeypatch):
    monkeypatch.setenv("SCOPEKEEPER_STATE", "here")
    with pytest.raises(StateError, match="whole path"):
        state.directory()
