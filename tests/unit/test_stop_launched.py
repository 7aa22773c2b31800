"""Whether a stop waits for a launch that is on its way to its leaf."""

import pytest

from scopekeeper.lifecycle.stop_launched import is_one_arriving
from scopekeeper.scope import names
from scopekeeper.scope.model import Member, Scope, Snapshot

UNIT = names.unit_name("S", "main", "")
LEAF = names.leaf_name("cat", "00000001")


def leaf(**more):
    return Member("cat", LEAF[-8:], f"/cg/{UNIT}/{LEAF}", f"/{UNIT}/{LEAF}", **more)


def is_arriving(*members, **more):
    scope = Scope(UNIT, f"/cg/{UNIT}", f"/{UNIT}", 0, "S", "main", "", members=members, **more)
    return is_one_arriving(Snapshot((scope,)))


@pytest.mark.parametrize(
    "members",
    [
        (),
        (leaf(problem="it has no record"),),
        (leaf(unsure=True),),
        (leaf(pid=3, pids=(3,)),),
        (leaf(pid=3, pids=(3,)), leaf(holder=4)),
    ],
    ids=["no leaf", "its leaf without a record", "its leaf", "another's", "and a place"],
)
def test_a_process_outside_of_every_leaf_of_a_new_scope_is_on_its_way(members):
    assert is_arriving(*members, strays=(9, 4), age=0.1)


def test_it_is_not_in_a_scope_that_is_older():
    assert not is_arriving(strays=(9,), age=60.0)


def test_what_holds_a_place_is_not_on_its_way():
    assert not is_arriving(leaf(holder=9), strays=(9,), age=0.1)


def test_nothing_is_on_its_way_where_all_are_in_leaves():
    assert not is_arriving(leaf(pid=3, pids=(3,)), age=0.1)
