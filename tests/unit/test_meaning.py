"""What a word on a command line means, and when it is refused."""

import pytest

from scopekeeper.scope.model import Liveness, Member, Owner, OwnerState, Scope, Snapshot
from scopekeeper.scope.resolve import choose, meanings
from scopekeeper.scope.selection import Selected, Selector

OWNER = OwnerState(Owner(unit="gw.service"), Liveness.ALIVE, "")


def member(name, member_id, pids=(1,)):
    where = f"/c/m-{name}.{member_id}"
    return Member(name, member_id, where, where, started=1, pids=pids, owner_state=OWNER)


def scope(session, lane="main", run="", members=(), **fields):
    unit = "-".join(filter(None, (f"scopekeeper-{session}", lane, run))) + ".scope"
    return Scope(unit, f"/c/{unit}", f"/{unit}", 0, session, lane, run, members=tuple(members),
                 **fields)  # fmt: skip


TIME, GIT = member("time", "00000001"), member("git", "00000002")
A = scope("a", members=[TIME, GIT], session_id="life")
A_CRON = scope("a", "cron", "life", [member("job", "00000003")], session_id="life")
TERMINAL = scope("b", run="7e484907", members=[member("bash", "00000004")])
B = scope("b", members=[member("time", "00000005")])
THERE = scope("away", members=[member("far", "00000006")], elsewhere=True)
ALL = Snapshot((A, A_CRON, TERMINAL, B, THERE))


def chosen(*words, **selector):
    return choose(ALL, words, Selector(**selector))


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("7e484907", [Selected(TERMINAL)]),
        ("b", [Selected(TERMINAL), Selected(B)]),
        ("life", [Selected(A), Selected(A_CRON)]),
        (A.unit, [Selected(A)]),
        (A.unit.removesuffix(".scope"), [Selected(A)]),
        ("git", [Selected(A, GIT)]),
        ("00000001", [Selected(A, TIME)]),
        ("m-time.00000001", [Selected(A, TIME)]),
        (THERE.unit, [Selected(THERE)]),
    ],
)
def test_a_word_is_a_run_a_session_a_scope_or_a_member(word, expected):
    found = chosen(word)
    assert list(found.selected) == expected
    assert (found.missing, found.several, found.notes) == ((), (), ())


@pytest.mark.parametrize("word", ["", "7e48", "m-time", "nothing", "away", "far"])
def test_a_word_that_means_nothing_is_said_and_the_others_count(word):
    found = chosen(word, "git")
    assert found.missing == (word,)
    assert found.selected == (Selected(A, GIT),)


def test_a_name_that_several_members_have_selects_none_of_them():
    found = chosen("time")
    assert found.selected == ()
    assert found.several == (("time", (Selected(A, TIME), Selected(B, B.members[0]))),)
    assert chosen("time", session="a").selected == (Selected(A, TIME),)


def test_of_several_kinds_the_first_counts_and_that_is_said():
    named = scope("git", members=[member("x", "00000007")])
    found = choose(Snapshot((A, named)), ["git"], Selector())
    assert found.selected == (Selected(named),)
    assert found.notes == ("git is a session and a member: the session was chosen",)


def test_options_narrow_words_down():
    assert chosen("a", lane="cron").selected == (Selected(A_CRON),)
    assert chosen("a", name="git").selected == (Selected(A, GIT),)
    for options in ({"name": "time"}, {"owner": "other"}):
        found = chosen("git", **options)
        assert (found.selected, found.missing) == ((), ()), "it is there, and not meant"
    assert chosen("git", owner="gw").selected == (Selected(A, GIT),)


def test_what_is_meant_twice_is_selected_once():
    assert chosen("a", A.unit, "git").selected == (Selected(A), Selected(A_CRON))


def test_all_meanings_are_known_to_who_only_looks():
    kinds = {kind: len(found) for kind, found in meanings(ALL, "time").items()}
    assert kinds == {"member": 2}
