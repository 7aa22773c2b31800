"""What systemd-oomd counts at a cgroup is read, and whatever else a process writes there is not."""

import pytest
from ends import an_end

from scopekeeper.kernel import oomd
from scopekeeper.lifecycle import label_lines, oom, unseen_ends
from scopekeeper.lifecycle.member_lines import Line
from scopekeeper.scope.reason import Reason

UNIT = "scopekeeper-s-main.scope"
END = an_end("00000001", started=5, unit=UNIT)


@pytest.fixture
def counts(monkeypatch):
    """The attributes of cgroups, by directory; not every file system has those of a user."""
    found = {}
    monkeypatch.setattr(oomd.cgroupfs, "attribute", lambda folder, _: found.get(folder))
    return found


@pytest.mark.parametrize(
    ("value", "count"),
    [
        (b"1", 1), (b"12", 12), (b"", 0), (b"-1", 0), (b"1\n", 0), (b"0x1", 0), (b"\xb2", 0),
        (b"9" * 20, 0), (b"9" * 60_000, 0), (b"\0" * 9, 0),
    ],
)  # fmt: skip
def test_it_is_a_number_or_nothing(counts, value, count):
    counts["/leaf"] = value
    assert oomd.kills_of("/leaf") == count


def test_without_a_count_or_a_way_to_it_there_was_no_kill(tmp_path, monkeypatch):
    assert oomd.kills_of(str(tmp_path)) == 0
    assert oomd.kills_of(str(tmp_path / "gone")) == 0

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(oomd.cgroupfs, "attribute", refuse)
    assert oomd.kills_of(str(tmp_path)) == 0


@pytest.mark.parametrize("whole", [False, True])
def test_a_line_in_the_ledger_gets_it_from_the_leaf_or_from_the_scope(counts, tmp_path, whole):
    scope = f"{tmp_path}/{UNIT}"
    line = Line(b"", END, f"/{UNIT}/{END.leaf}", None, None, 0, "")
    clues = unseen_ends._Clues(str(tmp_path), {}, b"", label_lines.NONE)
    assert clues.out_of_memory(line) is None
    counts[scope if whole else f"{scope}/{END.leaf}"] = b"1"
    found = clues.out_of_memory(line)
    assert (found.reason, found.oom_kills) == (Reason.OOM_KILLED, None)
    assert found.evidence.endswith(oom.of_oomd(scope, END.leaf))
    assert found.evidence.endswith(" of its scope") is whole
