"""Conditions, orders and columns of lists: what is wrong is one line."""

import itertools
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.cli import cells, ls_rows
from scopekeeper.cli.cells import Cell, Unit
from scopekeeper.cli.ended_runs import ENDED
from scopekeeper.cli.list_options import Conditions, Fields
from scopekeeper.cli.list_where import Order, arranged, chosen, condition, orders
from scopekeeper.cli.table import Column
from scopekeeper.scope import selection
from scopekeeper.scope.reason import Reason

NOW = 1_700_000_000.0
COLUMNS = (
    Column("SESSION"),
    Column("SESSION ID"),
    Column("PROCS", unit=Unit.NUMBER),
    Column("MEMORY", unit=Unit.SIZE),
    Column("AGE", unit=Unit.DURATION),
    Column("ENDED", unit=Unit.TIME),
    Column("ENDS", unit=Unit.DURATION, words={"now": 0.0, "never": math.inf}),
)


def row(session="s", session_id="", procs=1, memory=None, age=60.0, ended=NOW, ends=None):
    return (
        cells.text(session), cells.text(session_id), cells.number(procs), cells.size(memory),
        cells.duration(age), Cell("then", ended), Cell("-" if ends is None else "soon", ends),
    )  # fmt: skip


def fulfils(text, **values):
    each = condition(text, COLUMNS, NOW)
    return each.holds(row(**values)[each.at])


@pytest.mark.parametrize(
    ("text", "values", "wanted"),
    [
        ("session=a", {"session": "a"}, True),
        ("session=a", {"session": "ab"}, False),
        ("session!=a", {"session": "ab"}, True),
        ("session~^a.c$", {"session": "abc"}, True),
        ("session~B", {"session": "abc"}, False),
        ("session!~b", {"session": "abc"}, False),
        ("session=a=b", {"session": "a=b"}, True),
        ("SESSION = a", {"session": "a"}, True),
        ("session_id=-", {"session_id": ""}, True),
        ("session-id!=-", {"session_id": "x"}, True),
        ("session-id~x", {"session_id": ""}, False),
        ("session-id!~x", {"session_id": ""}, True),
        ("procs>9", {"procs": 10}, True),
        ("procs>9", {"procs": 9}, False),
        ("procs>=9", {"procs": 9}, True),
        ("memory>1G", {"memory": 2 << 30}, True),
        ("memory>1g", {"memory": 2 << 30}, True),
        ("memory<1GiB", {"memory": 2 << 30}, False),
        ("memory>1.5G", {"memory": 1 << 30}, False),
        ("memory>0", {"memory": None}, False),
        ("memory<1G", {"memory": None}, False),
        ("memory=-", {"memory": None}, True),
        ("memory!=-", {"memory": None}, False),
        ("memory=412M", {"memory": (412 << 20) + 1}, True),
        ("age>10m", {"age": 601}, True),
        ("age>1h30m", {"age": 5399}, False),
        ("age<10", {"age": 9.9}, True),
        ("age=1m1s", {"age": 60}, False),
        ("age=1m", {"age": 60}, True),
        ("ended>2h", {"ended": NOW - 7000}, True),
        ("ended<2h", {"ended": NOW - 7000}, False),
        ("ended>=@1700000000", {"ended": NOW}, True),
        ("ends=never", {"ends": math.inf}, True),
        ("ends=now", {"ends": 0.0}, True),
        ("ends<1h", {"ends": None}, False),
        ("ends>1h", {"ends": math.inf}, True),
    ],
)
def test_a_condition_means_what_it_says(text, values, wanted):
    assert fulfils(text, **values) is wanted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no condition"),
        ("session", "is no condition"),
        ("=x", "is no condition"),
        ("sesion=x", "there is no field 'sesion'; there are session, session-id, procs, memory"),
        ("session>x", "session is a text; compare it by = != ~ !~"),
        ("memory~x", "memory is a size; compare it by = != > < >= <="),
        ("memory>x", "'x' is not a size; write 512M or 2G"),
        ("memory>-", "'-' is not a size"),
        ("age>x", "'x' is not a duration; write 90s, 15m or 2h"),
        ("ends<x", "is not a duration; write 90s, 15m or 2h, or now or never"),
        ("procs>1G", "'1G' is not a number"),
        ("ended>x", "'x' is no time; write 2h, 2026-01-31T14:30:00 or @SECONDS"),
        ("session~(", "'(' is no regular expression"),
        ("session~x{99999999999}", "is no regular expression"),
    ],
)
def test_what_is_wrong_is_one_line_that_says_what_to_write(text, words):
    with pytest.raises(ValueError, match=re.escape(words)) as raised:
        condition(text, COLUMNS, NOW)
    assert str(raised.value).startswith("--where: ")
    assert "\n" not in str(raised.value)


@given(st.text(max_size=40) | st.from_regex(r"(session|procs|memory|age|ended|ends)[=!<>~]{1,2}.*"))
def test_no_text_is_worse_than_a_wrong_condition(text):
    problem = None
    try:
        each = condition(text, COLUMNS, NOW)
    except ValueError as error:
        problem = str(error)
    if problem is None:
        assert each.holds(row()[each.at]) in (True, False)
    else:
        assert problem.startswith("--where: ")


SIZES = st.integers(0, 1 << 50)


@given(SIZES | st.none(), SIZES)
def test_a_known_size_is_below_at_or_above_another_and_an_unknown_one_is_nothing(memory, limit):
    holds = [fulfils(f"memory{how}{limit}", memory=memory) for how in ("<", ">=", ">", "<=")]
    if memory is None:
        assert holds == [False] * 4
    else:
        assert holds[0] is not holds[1]
        assert holds[2] is not holds[3]
        assert holds[0] is (memory < limit)
        assert holds[2] is (memory > limit)


@given(st.sampled_from(["procs", "memory", "age", "ended", "ends"]), st.integers(0, 1 << 37))
def test_not_equal_is_the_opposite_of_equal(field, number):
    value = f"@{number}" if field == "ended" else number
    values = {"procs": 3, "memory": 1 << 30, "age": 60.0, "ended": NOW, "ends": math.inf}
    assert fulfils(f"{field}={value}", **values) is not fulfils(f"{field}!={value}", **values)


VALUES = st.lists(st.tuples(st.text("ab", max_size=2), SIZES | st.none()), max_size=12)


@given(VALUES, st.booleans(), st.booleans())
def test_sorting_keeps_every_row_and_the_unknown_ones_are_last(values, falling, also_name):
    rows = [row(session=name, session_id=f"{at:02}", memory=memory)
            for at, (name, memory) in enumerate(values)]  # fmt: skip
    by = [Order(3, falling), *([Order(0)] if also_name else [])]
    found = arranged(rows, lambda each: each, (), by)
    assert sorted(map(id, found)) == sorted(map(id, rows))
    known = [each[3].value for each in found if each[3].value is not None]
    assert known == sorted(known, reverse=falling)
    assert all(each[3].value is None for each in found[len(known) :])
    for one, next_one in itertools.pairwise(found):
        if one[3].value == next_one[3].value:
            names = (one[0].value or "~", next_one[0].value or "~")
            in_order = rows.index(one) < rows.index(next_one)
            assert (names[0] <= names[1]) if also_name else in_order


def test_fields_may_be_written_as_people_write_them():
    assert orders("-memory, session_id,+procs", COLUMNS) == (Order(3, True), Order(1), Order(2))
    assert chosen("MEMORY,session,memory", COLUMNS) == (3, 0)
    for parse, option in ((orders, "--sort"), (chosen, "--columns")):
        for text in ("x", "", "session,", "memory;age"):
            with pytest.raises(ValueError, match=f"^{option}: there is no field "):
                parse(text, COLUMNS)


def test_fields_are_completed():
    def offered(kind, text):
        return [each.value for each in kind(COLUMNS).shell_complete(None, None, text)]

    assert offered(Fields, "m") == ["memory"]
    assert offered(Fields, "-me") == ["-memory"]
    assert offered(Fields, "age,en") == ["age,ended", "age,ends"]
    assert offered(Conditions, "ses") == ["session=", "session-id="]
    assert offered(Conditions, "session=") == []


def test_a_value_that_a_field_never_has_is_refused_with_those_that_it_has():
    columns = [Column("STATE", values=("running", "kept"))]
    for text in ("state=runing", "state!=runing"):
        with pytest.raises(ValueError, match="state is never 'runing'; it is running, kept"):
            condition(text, columns, NOW)
    for text in ("state=kept", "state!=running", "state=-", "state~run", "state!~x"):
        assert condition(text, columns, NOW)


def test_the_states_of_ls_are_all_that_its_rows_have():
    (state,) = (each for each in ls_rows.COLUMNS if each.name == "state")
    assert {*selection.STATES, "ghost", ENDED, Reason.CONTINUED.value} == {*state.values}
