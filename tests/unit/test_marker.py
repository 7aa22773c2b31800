"""Processes of ours are found by the marker in their environment, wherever they are."""

import os
import subprocess
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.kernel import cgroupfs, proc
from scopekeeper.scope import marker, names
from scopekeeper.scope.marker import Marked

UNIT, LEAF = names.unit_name("s", "main"), names.leaf_name("x", "01234567")
ENVIRONMENT = {"A": "1", "SCOPEKEEPER_SCOPE": UNIT, "SCOPEKEEPER_MEMBER": LEAF}
ENTRIES = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=20)


def environment_of(fields: dict[str, str]) -> bytes:
    return b"".join(f"{key}={value}\0".encode() for key, value in fields.items())


def test_a_marked_process_is_seen_with_what_it_was_started_as() -> None:
    with subprocess.Popen(["/bin/sleep", "1000"], env=ENVIRONMENT) as child:
        try:
            while not proc.environment(child.pid):
                time.sleep(0.01)  # it is empty in the middle of execve(2)
            found = marker.look(child.pid)
            assert found is not None
            assert (found.scope, found.value("MEMBER"), found.value("LANE")) == (UNIT, LEAF, "")
            assert found.cgroup == proc.cgroup_of(child.pid)
            assert found.carries("MEMBER", LEAF)
            assert not found.carries("MEMBER", LEAF[:-1])
        finally:
            child.kill()
    assert marker.look(child.pid) is None


@pytest.mark.parametrize("name", ["XSCOPEKEEPER_SCOPE", "SCOPEKEEPER_SCOPES", "A"])
def test_another_variable_is_no_marker(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(proc, "environment", lambda _: environment_of({name: "x", "B": "2"}))
    assert marker.look(os.getpid()) is None


def test_a_process_in_any_scope_is_not_outside_and_its_environment_is_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[int] = []
    monkeypatch.setattr(proc, "environment", lambda pid: read.append(pid) or b"")
    monkeypatch.setattr(cgroupfs, "path_of", lambda _: f"/a.slice/{UNIT}/{LEAF}")
    assert marker.look_outside(7) is None
    monkeypatch.setattr(cgroupfs, "path_of", lambda _: "")
    assert marker.look_outside(7) is None
    assert read == []


def test_a_process_that_enters_a_scope_meanwhile_is_not_outside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paths = iter(["/user.slice/session-1.scope", f"/a.slice/{UNIT}/{LEAF}"])
    monkeypatch.setattr(proc, "environment", lambda _: environment_of(ENVIRONMENT))
    monkeypatch.setattr(cgroupfs, "path_of", lambda _: next(paths))
    assert marker.look_outside(7) is None


@given(st.lists(ENTRIES), ENTRIES)
def test_what_a_process_carries_is_a_whole_entry(others: list[str], value: str) -> None:
    entry = f"SCOPEKEEPER_MEMBER={value}"
    raw = b"\0".join(text.encode() for text in (*others, entry, ""))
    found = Marked(1, "/x", raw)
    assert found.carries("MEMBER", value)
    assert found.value("MEMBER") == value
    assert found.carries("MEMBER", value + "x") is (f"{entry}x" in others)


@pytest.mark.parametrize(
    ("path", "unit"),
    [("", ""), ("/", ""), (f"/a.slice/{UNIT}", UNIT), (f"/a/{UNIT}/{LEAF}/deep", UNIT),
     ("/session-1.scope", ""), (f"/scopekeeper-a-b.scope/m-x.01234567/{UNIT}/x", UNIT)],
)  # fmt: skip
def test_the_innermost_scope_of_a_path_is_named(path: str, unit: str) -> None:
    assert names.unit_of(path) == unit
