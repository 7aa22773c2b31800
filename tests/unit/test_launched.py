"""Members that others launched, and members whose process goes on as others."""

import os
from dataclasses import replace

import pytest

from scopekeeper.scope import launched, names, record_parser, records
from scopekeeper.scope.launched import Named, kinds_of, look_up
from scopekeeper.scope.model import Identity, Member, Scope, Snapshot
from scopekeeper.scope.placement import MOST_LAUNCHERS, Caller
from scopekeeper.scope.selection import Selected, Selector

ID = "00000001"


def member(scope, name, *launched_in, continues=0, lifetime="gateway", pid=7, **more):
    leaf = names.leaf_name(name, more.pop("member_id", ID))
    directory = f"/cg/{scope}/{leaf}"
    return Member(
        name, leaf[-8:], directory, directory[3:], pid=pid, start_time=pid, lifetime=lifetime,
        pids=(pid,) if pid else (), leader_lives=bool(pid), launched_in=launched_in,
        continues=continues, **more,
    )  # fmt: skip


def scope(session, *members, lane="main", run="", **more):
    unit = names.unit_name(session, lane, run)
    return Scope(unit, f"/cg/{unit}", f"/{unit}", 0, session, lane, run, members=members, **more)


def key(session, name, lane="main", run="", member_id=ID):
    return f"{names.unit_name(session, lane, run)}/{names.leaf_name(name, member_id)}"


def inner(*launched_in, session="T", name="inner", **how):
    return scope(session, member(names.unit_name(session, "main"), name, *launched_in, **how))


def reached(scopes, *words, **options):
    snapshot = Snapshot(tuple(scopes))
    named, _ = look_up(snapshot, words, Selector(**options))
    return [(each.member.name, each.launcher.name) for each in named.launched(snapshot)]


GONE = [inner(key("S", "outer"), continues=1)]


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["S"], {}),
        (["outer"], {}),
        ([ID], {}),
        (["m-outer.00000001"], {}),
        (["scopekeeper-S-main.scope"], {}),
        (["scopekeeper-S-main"], {}),
        ([], {"session": "S"}),
        ([], {"session": "S", "lane": "main", "run": ""}),
        ([], {"name": "outer"}),
        (["S"], {"name": "outer"}),
        (["outer"], {"session": "S"}),
    ],
)
def test_a_member_that_is_gone_is_found_by_all_its_names(words, options):
    if words == [ID]:
        other = [inner(key("S", "outer", member_id="000000aa"), continues=1)]
        assert reached(other, "000000aa") == [("inner", "outer")]
    else:
        assert reached(GONE, *words, **options) == [("inner", "outer")]


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["X"], {}),
        (["out"], {}),
        ([], {"session": "X"}),
        ([], {"session": "S", "lane": "cron"}),
        ([], {"session": "S", "run": "7"}),
        ([], {"session": "S", "name": "other"}),
        (["S"], {"lane": "cron"}),
        ([], {"session": "S", "owner": "gateway.service"}),
        ([], {"session": "S", "started_before": 1.0}),
        ([], {"session": "S", "lifetimes": frozenset(["gateway"])}),
        ([], {"session": "S", "states": frozenset(["running"])}),
        ([], {"session_id": "S"}),
        ([], {"units": frozenset(["scopekeeper-X-main.scope"])}),
        ([], {"lane": "main"}),
        ([], {}),
    ],
)
def test_nothing_else_finds_it(words, options):
    assert reached(GONE, *words, **options) == []


def test_a_run_names_it():
    assert reached([inner(key("S", "sh", run="4f1d09c7"))], "4f1d09c7") == [("inner", "sh")]


def test_long_names_are_compared_as_a_whole():
    session = "agent:" + "x" * 300
    there = [inner(key(session, "outer"), continues=1)]
    assert reached(there, session) == reached(there, "outer") == [("inner", "outer")]
    assert reached(there, session[:-1]) == []


def test_a_name_that_may_be_cut_is_no_proof():
    name = "n" * 200
    leaf = names.leaf_name(name, ID)
    there = [inner(key("S", name), continues=1)]
    assert reached(there, name) == reached(there, name[:100]) == reached(there, name[:-1]) == []
    assert reached(there, leaf) == reached(there, "S") == [("inner", "n" * 100)]


def test_what_is_there_and_what_it_launched_in_any_session():
    outer = scope("S", member("scopekeeper-S-main.scope", "outer"))
    chain = inner(key("S", "outer"), key("T", "mid"), session="U", name="deep")
    middle = inner(key("S", "outer"), name="mid")
    stranger = inner(key("X", "outer"), session="V", name="other")
    found = [("mid", "outer"), ("deep", "outer")]
    assert reached([outer, middle, chain, stranger], "S") == found
    assert reached([outer, middle, chain, stranger], session="T") == [("deep", "mid")]


@pytest.mark.parametrize(
    "changes",
    [{"problem": "damaged"}, {"claims": "x"}, {"pids": ()}, {"launched_in": ("x", "y/z")}],
)
def test_a_member_that_cannot_be_trusted_is_not_found(changes):
    changed = replace(GONE[0].members[0], **changes)
    assert reached([replace(GONE[0], members=(changed,))], "S") == []


@pytest.mark.parametrize(
    "changes", [{"elsewhere": True}, {"problem": "x"}, {"claims": Identity("S", "main")}]
)
def test_a_scope_that_cannot_be_trusted_is_not_looked_into(changes):
    assert reached([replace(GONE[0], **changes)], session="S", name="outer") == []


def test_several_members_of_one_name_are_not_chosen_from():
    snapshot = Snapshot((
        inner(key("S", "outer"), continues=1),
        inner(key("S2", "outer", member_id="00000002"), continues=1, session="T2"),
        scope("S3", member("scopekeeper-S3-main.scope", "outer", member_id="00000003")),
    ))  # fmt: skip
    named, _ = look_up(snapshot, ["outer"], Selector())
    word, members = named.ambiguous(snapshot)
    assert word == "outer"
    assert sorted(members) == [
        "m-outer.00000001 in S", "m-outer.00000002 in S2", "m-outer.00000003 in S3",
    ]  # fmt: skip
    assert look_up(snapshot, ["outer"], Selector(session="S2"))[0].ambiguous(snapshot) is None


def test_one_that_has_ended_does_not_make_a_living_one_ambiguous():
    """It launched something that lives, but its own process does not."""
    snapshot = Snapshot((
        inner(key("S", "outer", member_id="00000002")),
        scope("S", member("scopekeeper-S-main.scope", "outer")),
    ))  # fmt: skip
    named, _ = look_up(snapshot, ["outer"], Selector())
    assert named.ambiguous(snapshot) is None
    assert named.launched(snapshot) == []


@pytest.mark.parametrize(
    ("lifetime", "words", "found"),
    [
        ("gateway", ["S"], [("deep", "outer"), ("middle", "outer")]),
        ("session", ["S"], [("middle", "outer")]),
        ("detached", ["S"], [("middle", "outer")]),
        ("session", ["M"], [("deep", "middle")]),
        ("session", ["middle"], [("deep", "middle")]),
        ("session", ["S", "M"], [("deep", "middle")]),
    ],
)
def test_what_one_that_is_kept_has_launched_goes_on_with_it(lifetime, words, found):
    outer, middle = key("S", "outer"), key("M", "middle")
    scopes = [
        inner(outer, session="M", name="middle", lifetime=lifetime),
        inner(outer, middle, session="D", name="deep"),
    ]
    assert sorted(reached(scopes, *words)) == found


def test_what_is_known_and_what_is_left_out():
    snapshot = Snapshot((inner(key("S", "outer")), inner(key("T", "inner"), session="U")))
    named = Named((), Selector(session="S"))
    assert [x.scope.session for x in named.launched(snapshot)] == ["T"]
    assert [x.scope.session for x in named.launched(snapshot, [key("T", "inner")])] == ["U"]
    assert named.launched(snapshot, besides=[key("T", "inner")]) == []


def test_a_member_of_a_selected_scope_is_not_named_twice():
    there = scope("S", member("scopekeeper-S-main.scope", "inner", key("S", "outer"), continues=1))
    assert reached([there], "S") == []
    assert reached([there], "outer") == [("inner", "outer")]
    named = Named((Selected(there, there.members[0]),), Selector(session="S", name="inner"))
    assert named.launched(Snapshot((there,))) == []


def test_the_kind_of_a_word_is_that_of_what_is_there():
    snapshot = Snapshot((scope("outer"), *GONE))
    assert kinds_of(snapshot, ["outer", "S", "X"], {"outer": "session"}, Selector()) == {
        "outer": "session",
        "S": "session",
    }
    assert reached(snapshot.scopes, "outer") == []


def test_it_says_where_it_comes_from():
    snapshot = Snapshot((inner(key("S", "a"), key("S", "b", lane="cron"), continues=1),))
    (by_a,) = look_up(snapshot, ["a"], Selector())[0].launched(snapshot)
    (by_b,) = look_up(snapshot, ["b"], Selector())[0].launched(snapshot)
    assert by_a.origin == "launched by a (m-a.00000001 in S, lane main)"
    assert by_b.origin == "went on from b (m-b.00000001 in S, lane cron)"
    assert (by_a.goes_on, by_b.goes_on) == (False, True)
    assert list(launched.continuations(snapshot)) == [key("S", "b", lane="cron")]


# What a launch writes


def continues(enclosing, *, for_child=False):
    caller = object.__new__(Caller)
    caller.enclosing, caller.for_child = enclosing, for_child
    return caller.continues()


def this_process(**more):
    with open("/proc/self/stat") as file:
        start = file.read().rpartition(")")[2].split()[19]
    return {"PID": str(os.getpid()), "START": start, "LIFETIME": "gateway", **more}


def test_the_command_of_a_member_goes_on():
    assert continues(this_process()) == "1"
    assert continues(this_process(CONTINUES="2")) == "3"
    assert continues(this_process(CONTINUES="8")) == str(MOST_LAUNCHERS)
    assert continues(this_process(CONTINUES="2", LIFETIME="session")) == "1"
    for wrong in ("x", "12345", "-1", "٣"):
        assert continues(this_process(CONTINUES=wrong)) == "1"


def test_any_other_process_is_a_new_one():
    assert continues(None) == ""
    assert continues(this_process(PID="1")) == ""
    assert continues(this_process(START="1")) == ""
    assert continues(this_process(), for_child=True) == ""


def record(**fields):
    written = {"NAME": "x", "PID": "7", "START": "8", **fields}
    return record_parser.member(records.dumps(written), "m-x.12345678")


def test_a_record_has_how_many_members_its_process_was():
    assert record().continues == 0
    assert record(CONTINUES="3").continues == 3
    for wrong in ("9", "x", "-1"):
        with pytest.raises(records.RecordError, match="CONTINUES"):
            record(CONTINUES=wrong)


def test_no_more_than_it_was_launched_from():
    there = member("scopekeeper-T-main.scope", "x", "a/b", "c/d", continues=8)
    assert there.earlier == ("a/b", "c/d")
    assert replace(there, continues=1).earlier == ("c/d",)
    assert replace(there, continues=0).earlier == ()
