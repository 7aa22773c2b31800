"""What contradicts its name is shown and may be named, but is believed in nothing."""

import dataclasses
import shlex

import pytest

from scopekeeper.history.bounds import Bounds
from scopekeeper.history.end import UNPROVED, merged
from scopekeeper.history.store import HistoryStore
from scopekeeper.keeper import end_reason
from scopekeeper.kernel.exit_status import Exit
from scopekeeper.lifecycle import observe
from scopekeeper.lifecycle.plan import Step, Verdict, plan
from scopekeeper.policy.rules import Policy, Setting
from scopekeeper.scope.model import Identity, Liveness, Member, Owner, OwnerState, Scope, Snapshot
from scopekeeper.scope.reason import Cause, Reason, Stopper
from scopekeeper.scope.selection import Selector, select
from tests.unit.ends import NOW, an_end, member

GONE = OwnerState(Owner(pid=1, start_time=1), Liveness.GONE, "process 1 has ended")
ORPHAN = Member("git", "00000001", "/c/m-git.00000001", "/m-git.00000001", lifetime="gateway",
                owner_state=GONE, pids=(9,))  # fmt: skip
HONEST = Scope("scopekeeper-s-cron.scope", "/c", "/scopekeeper.slice/scopekeeper-s-cron.scope",
               1000, "s", "cron", members=(ORPHAN,), lifetime="gateway", session_id="1", born=1,
               manager="user")  # fmt: skip
FORGED = dataclasses.replace(HONEST, claims=Identity("t", "cron"), session_id="2", born=2)


@pytest.mark.parametrize(
    "scope",
    [
        FORGED,
        dataclasses.replace(FORGED, ttl=0, age=9.0),
        dataclasses.replace(FORGED, stopping=True),
        dataclasses.replace(FORGED, stopping=True, stopper=9),
        dataclasses.replace(HONEST, members=(dataclasses.replace(ORPHAN, claims="other"),)),
    ],
)
def test_it_is_reported_where_an_honest_one_is_ended(scope):
    assert [each.step for each in plan(Snapshot((HONEST,)), Policy())] == [Step.STOP]
    found = plan(Snapshot((scope,)), Policy())
    assert {(each.step, each.verdict) for each in found} == {(Step.REPORT, Verdict.FORGED)}


def test_it_supersedes_nothing():
    gateway = Owner(unit="a.service", epoch="1", cgroup="/a.service")
    lives = OwnerState(gateway, Liveness.ALIVE, "seen")
    owned = dataclasses.replace(ORPHAN, owner_state=lives, leader_lives=True)
    earlier = dataclasses.replace(HONEST, members=(owned,), owner=gateway)
    rules = Policy({"cron": {"supersede": Setting(True, "test")}})
    newer = dataclasses.replace(earlier, session_id="2", born=2)
    steps = [each.step for each in plan(Snapshot((earlier, newer)), rules)]
    assert steps == [Step.STOP, Step.KEEP]
    claimed = dataclasses.replace(FORGED, members=(owned,))
    steps = [each.step for each in plan(Snapshot((earlier, claimed)), rules)]
    assert steps == [Step.KEEP, Step.REPORT]


def test_it_is_meant_by_either_name_but_not_by_a_mixture():
    scope = dataclasses.replace(FORGED, claims=Identity("t", "main", "7"))
    for words in ({"session": "s"}, {"session": "t"}, {"session": "t", "lane": "main", "run": "7"}):
        assert select(Snapshot((scope,)), Selector(**words)), words
    assert not select(Snapshot((scope,)), Selector(session="s", lane="main"))


def test_the_command_that_ends_it_reads_back_as_the_same_words():
    odd = dataclasses.replace(HONEST, directory="/sys/x/scopekeeper-a\\x20$b-main.scope")
    assert shlex.split(odd.command_to_end(1000))[-1] == "scopekeeper-a\\x20$b-main.scope"
    assert shlex.split(odd.command_to_end(1000))[:2] == ["systemctl", "--user"]
    assert shlex.split(odd.command_to_end(0))[:4] == ["systemctl", "--user", "-M", "1000@"]
    plain = dataclasses.replace(odd, manager="")
    assert plain.command_to_end(1000).startswith("echo 1 > ")


def test_a_claim_stands_behind_what_was_seen_and_yields_to_the_stopper_itself():
    seen = end_reason.explain(an_end(), Exit(None, 15, "test"), None, 0, end_reason.Circumstances())
    seen = observe.with_claim(seen, f"its record says stopped by request (x), {UNPROVED}")
    assert seen.reason is Reason.SIGNALLED
    asked = observe.caused(an_end(), Cause(Reason.STOPPED, "x", Stopper(7, 8, "sh")), NOW)
    assert merged(seen, asked).reason is Reason.STOPPED
    assert merged(asked, seen).reason is Reason.STOPPED
    assert merged(asked, seen).stopper == Stopper(7, 8, "sh")


def test_a_scope_that_floods_the_history_drives_out_its_own_rows(tmp_path):
    store = HistoryStore(tmp_path, limits=Bounds(rows=50, scope_rows=20, per_minute=10))
    store.write([an_end(member(n), unit="quiet.scope", ended=NOW - 10**9) for n in range(5)])
    for minute in range(10):
        flood = [an_end(member(1000 * (minute + 1) + n), unit="loud.scope", started=minute,
                        ended=NOW - (10 - minute) * 61_000_000) for n in range(30)]  # fmt: skip
        assert len(store.write(flood)[0]) == 10, "as many as are kept of one minute are told"
    left = store.read()
    assert [end.member_id for end in left if end.unit == "quiet.scope"] == list(
        map(member, range(5))
    )
    loud = [end.started for end in left if end.unit == "loud.scope"]
    assert loud == [8] * 10 + [9] * 10, "the newest"


def test_a_flood_of_living_members_is_bounded_too(tmp_path):
    store = HistoryStore(tmp_path, limits=Bounds(scope_rows=20))
    for started in range(30):
        store.write([], [an_end(member(1), unit="loud.scope", started=started)])
    assert [end.started for end in store.living()] == [29], "one leaf lives one life at a time"
    store.write([], [an_end(member(n), unit="loud.scope") for n in range(30)])
    store.write([], [an_end(member(99), unit="quiet.scope")])
    units = [end.unit for end in store.living()]
    assert (units.count("loud.scope"), units.count("quiet.scope")) == (20, 1)


def test_a_member_cannot_write_over_the_row_of_another_scope(tmp_path):
    store = HistoryStore(tmp_path)
    true = an_end(unit="victim.scope", evidence="nobody watched it end")
    store.write([], [true])
    lie = dataclasses.replace(true, unit="liar.scope", reason=Reason.EXITED, evidence="a lie")
    store.write([], [lie])
    assert [end.unit for end in store.living()] == ["victim.scope"]
    store.write([true])
    assert store.write([lie])[0] == []
    assert store.read() == [true]
