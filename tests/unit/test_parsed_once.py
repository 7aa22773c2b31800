"""A stop parses each record once, and looks at each cgroup and folder once: counted, not timed."""

import os
from collections import Counter

import pytest

from scopekeeper.history import launch_ledger
from scopekeeper.kernel.proc import namespaces
from scopekeeper.lifecycle import member_lines, stop_counts, stop_mark, stop_witness
from scopekeeper.scope import names, record_parser, records
from scopekeeper.scope.reason import Cause, Reason

UNIT = names.unit_name("s", "main")
SCOPE = {"SESSION": "s", "LANE": "main", "LABEL": "mine"}
MEMBER = {"NAME": "time", "PID": "7", "START": "5", "STARTED": "1"}


@pytest.fixture
def loads(monkeypatch):
    """Count how often each record is loaded."""
    counted = Counter()
    load = records.loads

    def counting(raw, required=()):
        counted[raw] += 1
        return load(raw, required)

    monkeypatch.setattr(records, "loads", counting)
    return counted


def lines(count):
    common = {"CGROUP": f"/x.slice/{UNIT}", "NAMESPACES": namespaces()}
    return b"".join(
        launch_ledger.line(SCOPE | MEMBER | common | {"ID": f"{each:08x}"}) for each in range(count)
    )


def test_each_line_of_the_ledger_is_loaded_once(loads):
    found = list(member_lines.parsed(lines(20)))
    assert [each.end.member_id for each in found] == [f"{each:08x}" for each in range(20)]
    assert set(loads.values()) == {1}
    assert len(loads) == 20


def test_each_leaf_is_looked_at_once_however_many_lines_it_has(tmp_path, monkeypatch):
    looks = Counter()
    read = member_lines.read

    def counting(path):
        looks[path] += 1
        return read(path)

    monkeypatch.setattr(member_lines, "read", counting)
    found = list(member_lines.parsed(lines(5) * 2))
    leaf = tmp_path / found[0].leaf[1:]
    leaf.mkdir(parents=True)
    (leaf / "cgroup.events").write_text("populated 1\n")
    over = member_lines.over(found, str(tmp_path))
    assert {each.end.member_id for each in over} == {f"{each:08x}" for each in range(1, 5)}
    assert sorted(looks.values()) == [1] * 5


@pytest.fixture
def scope(tmp_path, monkeypatch):
    """Return a folder that has what a stop needs of a scope."""
    monkeypatch.setattr(stop_witness, "_folder", lambda: str(tmp_path / "stops"))
    monkeypatch.setattr(stop_witness, "_ROOTS", str(tmp_path / "none"))
    directory = tmp_path / UNIT
    directory.mkdir()
    (directory / "cgroup.kill").touch()
    (directory / "cgroup.events").write_text("populated 1\n")
    os.setxattr(directory, records.ATTRIBUTE, records.dumps(SCOPE))
    return str(directory)


def test_a_scope_is_marked_by_one_look_at_its_record(scope, loads, monkeypatch):
    looks = []
    attribute = stop_mark.cgroupfs.attribute
    monkeypatch.setattr(
        stop_mark.cgroupfs, "attribute", lambda *which: looks.append(which) or attribute(*which)
    )
    cause = Cause(Reason.STOPPED, "mine")
    marked = stop_mark.put(scope, scope, "", cause, kill_at=5)
    assert (marked.problem, marked.cause, marked.earlier) == ("", cause, None)
    assert (marked.scope.label, marked.scope.mark) == ("mine", None)
    assert len(looks) == 1
    assert sum(loads.values()) == 1
    now = record_parser.scope(os.getxattr(scope, records.ATTRIBUTE), UNIT)
    assert (now.label, now.mark.pid) == ("mine", os.getpid())
    again = stop_mark.put(scope, scope, "", Cause(Reason.TTL), kill_at=5)
    assert again.earlier == cause
    assert again.cause.reason is Reason.STOPPED


def test_a_scope_that_gets_its_record_meanwhile_is_marked(scope, monkeypatch):
    os.removexattr(scope, records.ATTRIBUTE)

    def write(directory):
        os.setxattr(directory, records.ATTRIBUTE, records.dumps(SCOPE))

    monkeypatch.setattr(stop_mark, "_await_record", write)
    assert stop_mark.put(scope, scope, "", Cause(Reason.STOPPED), kill_at=5).problem == ""
    os.removexattr(scope, records.ATTRIBUTE)
    monkeypatch.setattr(stop_mark, "_await_record", lambda _: None)
    marked = stop_mark.put(scope, scope, "", Cause(Reason.STOPPED), kill_at=5)
    assert marked.problem == stop_mark.NO_RECORD


@pytest.mark.parametrize(("record", "leaf"), [(MEMBER, ""), (SCOPE, "m-time.00000001")])
def test_what_lacks_a_field_that_it_must_have_is_not_marked(scope, record, leaf):
    os.setxattr(scope, records.ATTRIBUTE, records.dumps(record))
    marked = stop_mark.put(scope, scope, leaf, Cause(Reason.STOPPED), kill_at=5)
    assert "the record is damaged: it has no" in marked.problem
    assert b"STATE" not in os.getxattr(scope, records.ATTRIBUTE)


def test_the_notes_of_stops_are_listed_once_for_all_scopes(tmp_path, monkeypatch):
    monkeypatch.setattr(stop_witness, "_folder", lambda: str(tmp_path))
    monkeypatch.setattr(stop_witness, "_ROOTS", str(tmp_path))
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        for scope in range(9):
            stop_counts.note(stop_counts.LIVED, scope, fd, {"m-a.00000001": scope + 1})
    finally:
        os.close(fd)
    listed = []
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(path) or listdir(path))
    notes = stop_counts.Notes()
    assert [notes.of(scope).lived["m-a.00000001"] for scope in range(9)] == list(range(1, 10))
    assert len(listed) == len(list(stop_witness.folders()))
