"""Which scopes and members an operator's words mean."""

import re
from pathlib import Path

import pytest

from scopekeeper.scope import model
from scopekeeper.scope.model import Liveness, Member, Owner, OwnerState, Scope, Snapshot
from scopekeeper.scope.selection import STATES, Own, Selected, Selector, covers, select, shows

HERE = "pid/cgroup"


def member(name, *, owner="gw.service", started=1, pids=(1,), member_id="00000001"):
    named = Owner(unit=owner) if isinstance(owner, str) else owner
    state = OwnerState(named, Liveness.ALIVE, "")
    return Member(name, member_id, f"/c/{name}", f"/{name}", started=started * 10**6, pids=pids,
                  owner_state=state)  # fmt: skip


def scope(session="s", lane="main", members=(), **fields):
    return Scope(f"scopekeeper-{session}-{lane}.scope", "/c", "/", 0, session, lane,
                 members=tuple(members), **fields)  # fmt: skip


def test_selectors_narrow_each_other_down():
    scopes = (scope("a"), scope("a", "cron"), scope("b", "cron"))
    found = select(Snapshot(scopes), Selector(session="a", lane="cron"))
    assert found == [Selected(scopes[1])]


def test_no_session_id_is_not_the_id_of_all_that_have_none():
    assert select(Snapshot((scope("a", members=[member("git")]),)), Selector(session_id="")) == []


def test_an_empty_name_is_no_members_name():
    """No record but a forged one has a second name, and that of the others is empty."""
    assert select(Snapshot((scope("a", members=[member("git")]),)), Selector(name="")) == []


def test_a_member_is_meant_alone_where_others_stay():
    time, git = member("time"), member("git")
    shared = scope(members=[time, git])
    assert select(Snapshot((shared,)), Selector(name="git")) == [Selected(shared, git)]


def test_a_member_is_meant_alone_where_nothing_else_lives():
    ended = member("old", pids=())
    alone = scope(members=[ended, member("git")])
    assert select(Snapshot((alone,)), Selector(name="git")) == [Selected(alone, alone.members[1])]


def test_members_of_another_owner_are_spared():
    mine, other = member("a", owner="gw.service"), member("b", owner="other.service")
    shared = scope(members=[mine, other])
    assert select(Snapshot((shared,)), Selector(owner="gw")) == [Selected(shared, mine)]


def of_unit(unit="gw.service", user="1000", epoch="now", namespaces=HERE):
    path = f"/user.slice/user@{user}.service/app.slice/{unit}" if user else f"/system.slice/{unit}"
    return Owner(unit=unit, epoch=epoch, cgroup=path, namespaces=namespaces)


def of_process(pid=7, start=70, namespaces=HERE):
    return Owner(pid=pid, start_time=start, namespaces=namespaces)


@pytest.mark.parametrize(
    ("owner", "own"),
    [
        (of_unit(), True),
        (of_unit(epoch="an earlier life"), True),
        (of_unit("other.service"), False),
        (of_unit(user=""), False),
        (of_unit(user="1001"), False),
        (of_unit(namespaces="another container"), False),
        (of_process(), True),
        (of_process(pid=8), False),
        (of_process(start=71), False),
        (of_process(namespaces="another container"), False),
        (Owner(namespaces=HERE), False),
    ],
)
def test_what_belongs_to_a_caller_is_its_units_in_any_life_and_its_processes(owner, own):
    mine = Own(HERE, "gw.service", "1000", frozenset({(7, 70), (3, 30)}))
    found = scope(members=[member("a", owner=owner)])
    expected = [Selected(found, found.members[0])] if own else []
    assert select(Snapshot((found,)), Selector(session="s", own=mine)) == expected


def test_a_caller_without_a_service_has_no_unit():
    assert not Own(HERE, processes=frozenset({(7, 70)})).includes(of_unit(""))
    assert not Selector(own=Own(HERE)).names_nothing()


def test_what_was_started_later_is_spared():
    old, new = member("a", started=10), member("a", started=20, member_id="00000002")
    shared = scope(members=[old, new])
    assert select(Snapshot((shared,)), Selector(session="s", started_before=20)) == [
        Selected(shared, old)
    ]


def test_a_selector_without_a_name_means_nothing():
    assert Selector(lane="main", run="x", started_before=1.0).names_nothing()
    assert not Selector(units=frozenset(["x.scope"])).names_nothing()


def test_a_session_of_the_same_name_in_another_container_is_only_meant_by_its_unit():
    there = scope("s", elsewhere=True)
    assert select(Snapshot((there,)), Selector(session="s")) == []
    assert select(Snapshot((there,)), Selector(units=frozenset([there.unit]))) == [Selected(there)]


def test_what_is_about_a_whole_scope_is_covered_only_if_all_of_it_is():
    time, git = member("time"), member("git")
    shared = scope(members=[time, git])
    assert covers(Selector(session="s"), shared, None)
    assert not covers(Selector(session="t"), shared, None)
    assert not covers(Selector(name="git"), shared, None)
    assert covers(Selector(name="git"), shared, git)
    assert not covers(Selector(name="git"), shared, time)
    assert covers(Selector(owner="gw"), shared, None)
    assert not covers(Selector(owner="gw"), scope(members=[time], strays=(9,)), None)
    assert not covers(Selector(owner="gw"), scope(), None)


def test_the_state_of_a_scope_narrows_down_and_is_a_target():
    shared = scope(members=[member("git")])
    assert not Selector(states=frozenset(["orphan"])).names_nothing()
    assert select(Snapshot((shared,)), Selector(states=frozenset([shared.state])))
    assert not select(Snapshot((shared,)), Selector(states=frozenset(["orphan"])))


def test_a_list_shows_the_scopes_of_a_container_too():
    far = scope(members=[member("git")], elsewhere=True)
    assert not select(Snapshot((far,)), Selector(session="s"))
    assert shows(Selector(session="s"), far)
    assert shows(Selector(), far)
    assert not shows(Selector(name="time"), far)


def test_every_state_of_a_scope_can_be_selected():
    text = Path(model.__file__).read_text(encoding="utf-8")
    state = text.partition('"""One of the states of ``ls``')[2].partition("\ndef ")[0]
    assert set(re.findall(r'"([a-z]+)"', state.partition('"""')[2])) == set(STATES)
