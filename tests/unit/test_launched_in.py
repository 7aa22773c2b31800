"""The members that a launch came from, as its record names them."""

import pytest

from scopekeeper.scope import record_parser, records
from scopekeeper.scope.placement import LAUNCHERS_LENGTH, MOST_LAUNCHERS, Caller

HERE = "scopekeeper-s-main.scope/m-here.00000000"


def launched_in(enclosing, path=f"/sys/fs/cgroup/x.slice/{HERE}"):
    caller = object.__new__(Caller)
    caller.enclosing, caller.directory = enclosing, path
    return caller.launched_in()


def others(count):
    return [f"scopekeeper-s-main.scope/m-x.{number:08}" for number in range(count)]


def record(names):
    fields = {"NAME": "x", "PID": "7", "START": "8", "LAUNCHED_IN": names}
    return record_parser.member(records.dumps(fields), "m-x.12345678")


def test_outside_of_every_member_there_is_none():
    assert launched_in(None) == ""
    assert record("").launched_in == ()


@pytest.mark.parametrize(
    ("lifetime", "expected"),
    [("gateway", [*others(2), HERE]), ("session", [HERE]), ("detached", [HERE])],
)
def test_what_outlives_its_starter_begins_the_list(lifetime, expected):
    found = launched_in({"LIFETIME": lifetime, "LAUNCHED_IN": " ".join(others(2))})
    assert found.split(" ") == expected
    assert record(found).launched_in == tuple(expected)


def test_the_first_member_is_named_alone():
    assert launched_in({"LIFETIME": "gateway"}) == HERE


def test_the_list_is_bounded_and_keeps_the_nearest():
    found = launched_in({"LIFETIME": "gateway", "LAUNCHED_IN": " ".join(others(20))})
    assert found.split(" ") == [*others(20)[1 - MOST_LAUNCHERS :], HERE]
    assert len(record(found).launched_in) == MOST_LAUNCHERS
    assert launched_in({"LIFETIME": "gateway", "LAUNCHED_IN": "x" * (LAUNCHERS_LENGTH + 1)}) == HERE


@pytest.mark.parametrize("names", [" ".join(others(9)), "x" * (LAUNCHERS_LENGTH + 1)])
def test_a_longer_list_is_damage(names):
    with pytest.raises(records.RecordError, match="LAUNCHED_IN"):
        record(names)
