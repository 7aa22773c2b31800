"""The mark of a stop is read back as the cause that went in, where the stopper has kept it too."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.history.end import UNPROVED
from scopekeeper.kernel import proc
from scopekeeper.lifecycle import stop_counts, stop_mark, stop_witness
from scopekeeper.lifecycle.stop_in_progress import StopInProgress
from scopekeeper.scope import record_parser, records
from scopekeeper.scope.reason import Cause, Reason, Stopper

WORDS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"))
STOPPERS = st.builds(
    Stopper,
    st.integers(0, record_parser.PID_MAX),
    st.integers(0, record_parser.UID_MAX),
    st.text("abc \n\\", max_size=15),
)
CAUSES = st.builds(Cause, st.sampled_from(Reason), WORDS, st.none() | STOPPERS)


@pytest.fixture
def stops(tmp_path, monkeypatch):
    """Give a folder in which stoppers keep their causes."""
    folder = tmp_path / "stops"
    monkeypatch.setattr(stop_witness, "_folder", lambda: str(folder))
    monkeypatch.setattr(stop_witness, "_ROOTS", str(folder))
    return folder


def marked(cause):
    """Return the mark in a record that a stop with this cause has written."""
    return record_parser.stop_mark(
        records.dumps({"SESSION": "s", "LANE": "main"} | stop_mark.fields(cause))
    )


@given(CAUSES)
def test_what_only_the_record_says_is_no_cause_but_a_claim(cause):
    found = marked(cause)
    assert (found.pid, found.why, found.text) == (os.getpid(), cause.reason.value, cause.text)
    assert stop_mark.cause("/proc/self", found) is None
    assert UNPROVED in stop_mark.claim(found)


def test_a_cause_that_its_stopper_has_kept_comes_back_whatever_the_record_says(tmp_path, stops):
    cause = Cause(Reason.STOPPED, "the turn is over", Stopper(7, 8, "operator"))
    scope, other = tmp_path / "scope", tmp_path / "other"
    for directory in (scope, other):
        directory.mkdir()
    assert stop_witness.keep(str(scope), stop_mark.fields(cause))
    forged = marked(Cause(Reason.TTL, "its time was over", Stopper(1, 0, "sshd")))
    assert stop_mark.cause(str(scope), forged) == cause
    assert stop_mark.cause(str(other), forged) is None
    assert stop_mark.cause(str(scope), None) is None


def test_what_is_kept_is_believed_only_of_its_own_uid_boot_and_kind(tmp_path, stops):
    scope = tmp_path / "scope"
    scope.mkdir()
    fields = stop_mark.fields(Cause(Reason.STOPPED, "x"))
    assert stop_witness.keep(str(scope), fields)
    (kept,) = stops.iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    assert stop_witness.find(str(scope)) is not None
    kept.write_bytes(records.dumps({"BOOT": "another", **fields}))
    assert stop_witness.find(str(scope)) is None
    for raw in (b"", b"V=1\nSTATE=stopping\nSTOPPER_PID=--5\n", b"\xff" * 99999):
        kept.write_bytes(raw)
        assert stop_witness.find(str(scope)) is None
    kept.unlink()
    os.mkfifo(kept)
    assert stop_witness.find(str(scope)) is None
    kept.unlink()
    kept.symlink_to("/etc/passwd")
    assert stop_witness.find(str(scope)) is None
    assert stop_witness.keep(str(scope), fields), "a link is replaced, not followed"
    assert stop_witness.find(str(scope)) is not None


def test_kills_are_noted_for_another_stop_of_the_same_scope(tmp_path, stops):
    scope, other = tmp_path / "scope", tmp_path / "other"
    for directory in (scope, other):
        directory.mkdir()
    numbers = [stop_counts.number_of(str(each)) for each in (scope, other)]
    leaf = os.open(scope, os.O_RDONLY)
    try:
        stop_counts.note(
            stop_counts.KILLED, numbers[0], leaf, {"m-a.00000001": 3, "m-b.00000002": 0}
        )
    finally:
        os.close(leaf)
    assert stop_counts.Notes().of(numbers[0]).killed == {"m-a.00000001": 3}
    assert stop_counts.Notes().of(numbers[1]).killed == {}
    (note,) = stops.iterdir()
    assert note.stat().st_mode & 0o777 == 0o600
    for raw in (b"", b"\xff" * 99, records.dumps({"BOOT": "another", "m-a.00000001": "3"}),
                records.dumps({"BOOT": proc.boot_id(), "m-a.00000001": "many"})):  # fmt: skip
        note.write_bytes(raw)
        assert stop_counts.Notes().of(numbers[0]).killed == {}


RULE = Cause(Reason.OWNER_GONE, "gateway.service has stopped", Stopper(7, 0, "scopekeeper"))
PERSON = Cause(Reason.STOPPED, "mine", Stopper(8, 1000, "bash"))


def test_the_first_cause_holds_and_a_second_is_named_once():
    both = stop_mark.holding(RULE, PERSON)
    assert (both.reason, both.stopper) == (RULE.reason, RULE.stopper)
    also = "meanwhile also asked for by bash (pid 8, uid 1000): mine"
    assert both.evidence == f"gateway.service has stopped; {also}"
    assert stop_mark.holding(both, Cause(Reason.STOPPED, "again")) == both
    assert stop_mark.holding(PERSON, RULE).evidence.endswith(
        "(pid 8, uid 1000): mine; meanwhile also gateway.service has stopped"
    )


@pytest.mark.parametrize("first", [None, Cause(Reason.UNKNOWN, "its record says ttl")])
def test_what_nobody_was_stopping_has_the_cause_of_the_stop(first):
    assert stop_mark.holding(first, PERSON) == PERSON


@given(CAUSES)
def test_a_stop_that_is_finished_by_another_process_keeps_its_cause(cause):
    assert stop_mark.holding(cause, cause) == cause


ENDING = "is ending it, and kills what is left"


@pytest.mark.parametrize(
    ("asker", "left", "words", "is_sure"),
    [
        (Stopper(7, 0, "scopekeeper"), 4, f"the keeper (pid 7) {ENDING} in 4.0s", True),
        (Stopper(8, 0, "sh"), -1, f"process 7, asked by sh (pid 8, uid 0), {ENDING} now", True),
        (Stopper(7, 0, "python3"), -90, "should have killed what is left 1m30s ago", False),
        (None, None, "process 7 is ending it; it is not known until when", False),
    ],
)
def test_a_stop_by_another_process_says_whose_and_until_when(asker, left, words, is_sure):
    found = StopInProgress(7, asker, left)
    assert words in found.words
    assert found.is_sure is is_sure


def test_what_is_not_asked_for_any_more_is_removed(tmp_path, stops):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        stop_witness.keep(str(tmp_path / name), stop_mark.fields(Cause(Reason.TTL)))
    old = stops / str((tmp_path / "old").stat().st_ino)
    os.utime(old, (1, 1))
    stop_witness.tidy()
    assert [path.name for path in stops.iterdir()] == [str((tmp_path / "new").stat().st_ino)]


def test_the_mark_of_an_older_version_tells_only_what_it_has():
    old = {"STATE": "stopping", "STOPPER_PID": "1", "STOPPER_START": "2", "REASON": "orphan: x"}
    found = record_parser.stop_mark(records.dumps(old))
    assert (found.pid, found.start_time, found.why, found.asker) == (1, 2, "", None)
    assert "orphan: x" in stop_mark.claim(found)


def test_taking_it_away_knows_every_field_of_it():
    assert set(stop_mark.fields(Cause(Reason.TTL, "x", Stopper(1, 2, "sh")))) == set(stop_mark.KEYS)
