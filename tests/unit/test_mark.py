"""The mark of a stop comes back out of a record as the cause that went in."""

from hypothesis import given
from hypothesis import strategies as st

from scopekeeper import mark, records
from scopekeeper.history import Cause, Reason, Stopper

WORDS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"))
CAUSES = st.builds(
    Cause,
    st.sampled_from(Reason),
    WORDS,
    st.none() | st.builds(Stopper, st.integers(0, 2**31), st.integers(0, 2**32), WORDS),
)


@given(CAUSES)
def test_a_cause_comes_back_out_of_a_record(cause):
    record = {"SESSION": "s", "LANE": "main"} | mark.fields(cause)
    assert mark.cause(records.loads(records.dumps(record))) == cause


def test_what_is_not_being_stopped_has_none():
    assert mark.cause({"SESSION": "s", "REASON": "x"}) is None


def test_the_mark_of_an_older_version_tells_only_what_it_has():
    old = {"STATE": "stopping", "STOPPER_PID": "1", "STOPPER_START": "2", "REASON": "orphan: x"}
    assert mark.cause(old) == Cause(Reason.UNKNOWN, "orphan: x")


def test_taking_it_away_knows_every_field_of_it():
    assert set(mark.fields(Cause(Reason.TTL, "x", Stopper(1, 2, "sh")))) == set(mark.KEYS)
