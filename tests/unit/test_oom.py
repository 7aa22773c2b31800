"""What is left of an end by the OOM killer is read, and nothing is made of what is not proved."""

import dataclasses

import pytest
from ends import an_end

from scopekeeper.history import recording
from scopekeeper.lifecycle import label_lines, oom, unseen_ends
from scopekeeper.lifecycle.member_lines import Line
from scopekeeper.scope import records
from scopekeeper.scope.reason import Reason

UNIT = "scopekeeper-s-main.scope"
END = an_end("00000001", started=5, unit=UNIT)
OTHER = an_end("00000002", started=6, unit=UNIT)


@pytest.fixture
def scope(tmp_path, monkeypatch):
    """A scope that was made for one member, in which nothing lives."""
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state"))
    folder = tmp_path / "x" / UNIT
    (folder / END.leaf).mkdir(parents=True)
    (folder / "cgroup.events").write_text("populated 0\nfrozen 0\n")
    raw = records.dumps({"SESSION": "s", "LANE": "main", "CREATED": "5"})
    monkeypatch.setattr(oom.cgroupfs, "attribute", lambda *_: raw)
    return folder


def kills(folder, *, alone=1, group=0):
    """Write the numbers that the kernel counts in a cgroup."""
    text = f"low 0\nmax 9\noom 1\noom_kill {alone}\noom_group_kill {group}\n"
    (folder / "memory.events.local").write_text(text)


def test_the_kills_of_a_scope_are_those_of_its_only_member(scope):
    assert oom.of_scope(str(scope), END) == ""
    kills(scope)
    assert oom.of_scope(str(scope), END) == "memory.events.local of its scope: oom_kill 1"


@pytest.mark.parametrize("other", ["lives beside it", "is gone", "made the scope", "lives in it"])
def test_with_another_member_they_prove_nothing(scope, other):
    kills(scope)
    end = END
    if other == "lives beside it":
        (scope / OTHER.leaf).mkdir()
    elif other == "is gone":
        assert recording.record([dataclasses.replace(OTHER, reason=Reason.OOM_KILLED)]) == ""
    elif other == "made the scope":
        end = dataclasses.replace(END, started=7)
    else:
        (scope / "cgroup.events").write_text("populated 1\nfrozen 0\n")
    assert oom.of_scope(str(scope), end) == ""


def test_a_scope_that_the_kernel_killed_at_once_explains_each_member(scope):
    kills(scope, alone=3, group=1)
    (scope / OTHER.leaf).mkdir()
    for end in (END, OTHER):
        text = "memory.events.local of its scope: oom_group_kill 1"
        assert oom.of_scope(str(scope), end) == text


def test_whoever_reads_the_ledger_first_reads_the_kills_too(scope, tmp_path, monkeypatch):
    leaf = f"/x/{UNIT}/{END.leaf}"
    line = Line(b"", END, leaf, None, None, 0, "")
    clues = unseen_ends._Clues(str(tmp_path), {}, b"", label_lines.NONE)
    assert clues.out_of_memory(line) is None
    kills(scope / END.leaf, alone=2)
    found = clues.out_of_memory(line)
    assert (found.reason, found.oom_kills) == (Reason.OOM_KILLED, 2)


def test_a_result_is_asked_for_once_and_only_of_a_manager_that_is_ours(monkeypatch):
    asked = []
    monkeypatch.setattr(oom, "_ended_by_oom", lambda kind: asked.append(kind) or {UNIT})
    monkeypatch.setattr("os.getuid", lambda: 1000)
    results = oom.Results()
    mine = f"/user.slice/user-1000.slice/user@1000.service/scopekeeper.slice/{UNIT}"
    assert [results.evidence(mine) for _ in range(2)] == ["Result=oom-kill of its scope"] * 2
    assert results.evidence(mine.replace("s-main", "t-main")) == ""
    assert results.evidence(mine.replace("user@1000", "user@1001")) == ""
    assert asked == ["user"]
