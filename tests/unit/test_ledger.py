"""Any bytes may stand in the ledger: a line is what a launch wrote, or is left out."""

import dataclasses
import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.history import launch_ledger as writing
from scopekeeper.history import recording
from scopekeeper.history.end import End
from scopekeeper.keeper.exec.end_of_run import as_end
from scopekeeper.keeper.exec.live import as_launched
from scopekeeper.kernel.proc import mount_point, namespaces
from scopekeeper.lifecycle import member_lines, unseen_ends
from scopekeeper.scope import names
from scopekeeper.scope.reason import Cause, Reason, Stopper
from tests.unit.standin import a_run

CHARACTERS = st.characters(blacklist_characters="\0", blacklist_categories=["Cs"])
WORDS = st.text(CHARACTERS, min_size=1, max_size=40)
GOOD = {
    "SESSION": "s", "LANE": "main", "CGROUP": "/x.slice/scopekeeper-s-main.scope", "NAME": "time",
    "PID": "7", "START": "1", "ID": "0a1b2c3d", "STARTED": "5", "NAMESPACES": "1/2", "BOOT": "b",
}  # fmt: skip


def read(raw: bytes) -> list[End]:
    return [each.end for each in member_lines.parsed(raw)]


@given(WORDS, WORDS, WORDS, st.integers(1, 2**40))
def test_what_was_written_is_read(session, lane, name, started):
    unit = names.unit_name(session, lane)
    fields = {**GOOD, "SESSION": session, "LANE": lane, "NAME": name, "STARTED": str(started)}
    (end,) = read(writing.line(fields | {"CGROUP": f"/{unit}"}))
    assert (end.session, end.lane, end.name, end.started) == (session, lane, name, started)
    assert (end.unit, end.reason) == (unit, Reason.UNKNOWN)


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_a_line_is_read_whatever_stands_before_and_behind_it(before, behind):
    ends = read(before + writing.line(GOOD) + behind.replace(b"V=1\0", b""))
    assert "0a1b2c3d" in [end.member_id for end in ends]


@given(st.sampled_from(sorted(GOOD)), st.one_of(WORDS, st.integers().map(str), st.just("9" * 5000)))
def test_a_field_that_is_none_of_ours_costs_at_most_its_line(field, value):
    ends = read(writing.line({**GOOD, field: value}) + writing.line({**GOOD, "ID": "11111111"}))
    assert ends[-1].member_id == "11111111"
    assert len(ends) <= 2
    for end in ends:
        assert 0 <= end.started < 2**63
        assert end.pid is None or 0 < end.pid < 2**31
        assert "/" not in end.unit


@given(WORDS)
def test_a_cgroup_elsewhere_is_not_looked_at(path):
    for cgroup in (f"../{path}", f"/../{path}", path, f"/a/../{GOOD['CGROUP']}"):
        if not cgroup.startswith("/") or ".." in cgroup.split("/"):
            assert read(writing.line({**GOOD, "CGROUP": cgroup})) == []


@given(st.sampled_from(Reason), WORDS, st.integers(1, 2**22), st.integers(0, 2**32 - 2))
def test_why_a_stop_ends_a_member_is_read(reason, text, pid, uid):
    end = End(
        "0a1b2c3d", 5, 0, "s", "main", "time", Reason.UNKNOWN, unit="scopekeeper-s-main.scope",
        pid=7, owner="pid 3", boot_id="b", processes=1,
    )  # fmt: skip
    cause = Cause(reason, text, Stopper(pid, uid, "sh"))
    raw = b"".join(unseen_ends.lines_of([end], [cause], "/x/scopekeeper-s-main.scope"))
    (line,) = member_lines.parsed(raw)
    assert line.cause == cause
    assert (line.end.owner, line.end.pid) == ("pid 3", 7)


def test_a_run_whose_scope_was_not_seen_ends_as_the_member_that_was_launched(monkeypatch, tmp_path):
    """The history may have that member's end already: two rows would be two members."""
    lines = tmp_path / "launches"
    monkeypatch.setattr(writing, "path", lambda: str(lines))
    scope = f"/x.slice/{names.unit_name('s', 'main', '1a2b3c4d')}"
    launched = {**GOOD, "RUN": "1a2b3c4d", "CGROUP": scope, "NAMESPACES": namespaces()}
    nested = {**launched, "PID": "8", "ID": "11111111"}  # in the same scope
    lines.write_bytes(b"".join(map(writing.line, (launched, nested))))
    (collected, _) = read(lines.read_bytes())
    run = as_launched(a_run(pid=7))
    assert run.leaf == collected.leaf
    assert run.joined == collected.started
    assert run.directory == f"{mount_point()}{scope}"
    assert as_launched(a_run(pid=9)).leaf == ""


def test_a_run_whose_line_a_collector_has_dropped_ends_as_the_end_that_it_wrote(
    monkeypatch, tmp_path
):
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(writing, "path", lambda: str(tmp_path / "launches"))
    unit = names.unit_name("s", "main", "1a2b3c4d")
    launched = {**GOOD, "RUN": "1a2b3c4d", "CGROUP": f"/x.slice/{unit}"}
    (line,) = read(writing.line(launched))
    collected = dataclasses.replace(line, ended=time.time_ns() // 1000)
    nested = dataclasses.replace(collected, pid=8, member_id="11111111")  # in the same scope
    assert recording.keep([collected, nested]) == ([collected, nested], "")
    run = as_launched(a_run(pid=7))
    assert (run.leaf, run.joined) == (collected.leaf, collected.started)
    assert recording.keep([as_end(run)]) == ([], "")  # one member, one row
    assert as_launched(a_run(pid=9)).leaf == ""


@pytest.mark.parametrize("reads", [0, 1])
def test_a_launch_is_found_while_a_collector_moves_the_lines_aside(monkeypatch, tmp_path, reads):
    lines = tmp_path / "launches"
    monkeypatch.setattr(writing, "path", lambda: str(lines))
    scope = f"/x.slice/{names.unit_name('s', 'main', '1a2b3c4d')}"
    launched = {**GOOD, "RUN": "1a2b3c4d", "CGROUP": scope, "NAMESPACES": namespaces()}
    lines.write_bytes(writing.line(launched))
    read_file, done = unseen_ends._read, []

    def read_and_move(path):
        """Move them before the read of this number."""
        if len(done) == reads:
            os.rename(lines, f"{lines}{writing.EARLIER}")
        done.append(path)
        return read_file(path)

    monkeypatch.setattr(unseen_ends, "_read", read_and_move)
    assert as_launched(a_run(pid=7)).joined == 5
    assert len(done) == 2


def test_why_a_stop_ends_a_member_is_known_before_it_writes_the_history(monkeypatch, tmp_path):
    monkeypatch.setattr(writing, "path", lambda: str(tmp_path / "launches"))
    monkeypatch.setattr(recording, "causes_of", lambda ends: [None] * len(ends))
    (end,) = read(writing.line(GOOD))
    other = dataclasses.replace(end, member_id="11111111")
    cause = Cause(Reason.STOPPED, "no more", Stopper(7, 8, "sh"))
    living = dataclasses.replace(end, processes=1)
    unseen_ends.announce([living], [cause], GOOD["CGROUP"])
    assert unseen_ends.causes_of([other, end]) == [None, cause]
