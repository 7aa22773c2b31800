"""Gateways come, end and come again, time passes, plans are carried out: against a small model.

The model knows what has happened, not what the records say; it is asked who has to be stopped now,
and when each of the others would be, and the plan has to agree at every step.
"""

import itertools
import math
from dataclasses import dataclass, field, replace

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from scopekeeper.lifecycle.plan import Step, Verdict, plan
from scopekeeper.policy.rules import Policy, Setting
from scopekeeper.policy.values import FOREVER
from scopekeeper.scope.model import Liveness, Member, Owner, OwnerState, Scope, Snapshot

SECOND = 1_000_000
DAY = 86_400 * SECOND
NEVER = math.inf
AGES = 400 * DAY
WHICH = st.integers(0, 20)
MEMBERS = st.tuples(
    WHICH,
    st.sampled_from(["", "", "", "", "", "gateway", "session", "detached"]),
    st.sampled_from([True, True, False]),
    st.sampled_from([False, False, False, False, False, True]),
)
"""Which gateway starts it, its lifetime ('' is the scope's), whether its command still runs, and
whether its record is damaged."""


@dataclass(frozen=True)
class Lane:
    """The rules of a lane, as a user would say them."""

    orphans: bool = True
    orphan_grace: float = 0
    session_grace: float = DAY
    leaderless: bool = False
    leader_grace: int = 10 * SECOND
    supersede: bool = False
    idle: int | None = None

    def settings(self):
        said = {
            "orphans": "stop" if self.orphans else "report",
            "orphan_grace": FOREVER if self.orphan_grace == NEVER else self.orphan_grace,
            "session_grace": FOREVER if self.session_grace == NEVER else self.session_grace,
            "on_leader_exit": "stop" if self.leaderless else "linger",
            "leader_grace": self.leader_grace,
            "supersede": self.supersede,
            "idle": self.idle,
        }
        return {key: Setting(value, "test") for key, value in said.items()}


LANES = {
    "main": Lane(),
    "cron": Lane(orphan_grace=30 * SECOND, leaderless=True, supersede=True),
    "sub": Lane(orphan_grace=3600 * SECOND, idle=60 * SECOND, supersede=True),
}
RULES = (
    *LANES.values(),
    Lane(orphan_grace=NEVER, session_grace=NEVER, leaderless=True),
    Lane(orphans=False, leaderless=True, leader_grace=0),
    Lane(orphan_grace=5 * SECOND, session_grace=0, idle=20 * SECOND),
)


@dataclass(eq=False)
class Gateway:
    """One life of a gateway; the next one of a unit is another."""

    owner: Owner
    state: Liveness = Liveness.ALIVE


@dataclass(eq=False)
class Command:
    """A member, what became of it, and since when that has been looked at."""

    number: int
    gateway: Gateway
    lifetime: str
    damaged: bool
    leads: bool = True
    lives: bool = True
    seen: dict[str, int] = field(default_factory=dict)

    def yields_to(self, owner):
        """Tell whether a later run of that owner takes its place."""
        own = self.gateway.owner
        if self.damaged:
            return False
        if own.unit:
            return own.unit == owner.unit
        is_same = (own.pid, own.start_time) == (owner.pid, owner.start_time)
        return is_same or self.gateway.state is Liveness.GONE

    @property
    def is_orphan(self):
        return self.gateway.state is Liveness.GONE and self.lifetime != "detached"


@dataclass(eq=False)
class Cohort:
    """A scope."""

    number: int
    lane: str
    lifetime: str
    born: int
    run: str
    ttl: int | None
    alien: str
    """'', ``foreign`` (no record that can be read) or ``elsewhere`` (of a container)."""
    owner: Owner
    """Of who made it."""
    stopping: bool = False
    strays: int = 0
    written: int = 0
    commands: list[Command] = field(default_factory=list)
    seen: tuple[int, int] | None = None
    """When it was last seen at work, and how much it had written then."""

    @property
    def living(self):
        return [command for command in self.commands if command.lives]

    @property
    def is_left_over(self):
        return not self.living and not self.strays and self.alien != "elsewhere"


class World:
    """What there is, and what the rules make of it."""

    def __init__(self):
        self.now = DAY
        self.lanes = dict(LANES)
        self.policy = self.rules()
        self.cohorts = []

    @property
    def living(self):
        return [command for cohort in self.cohorts for command in cohort.living]

    def rules(self):
        return Policy({lane: rules.settings() for lane, rules in self.lanes.items()})

    # What has to be done

    def reasons(self, cohort, command):
        """Yield why a command has to go, the mark that counts for it, and after how long."""
        lane = self.lanes[cohort.lane]
        if command.is_orphan and lane.orphans:
            own = lane.orphan_grace if command.lifetime == "gateway" else lane.session_grace
            yield Verdict.ORPHAN, "ORPHANED", own
        if not command.leads and lane.leaderless and command.lifetime != "detached":
            yield Verdict.LEADERLESS, "LEADERLESS", lane.leader_grace

    def end_of(self, cohort, command):
        """Return when a command has to go unless something happens; and the mark, and why."""
        if command.damaged or not command.lives:
            return NEVER, "", None
        ends = [
            (command.seen.get(mark, self.now) + grace if grace else self.now, mark, why)
            for why, mark, grace in self.reasons(cohort, command)
        ]
        return min(ends, key=lambda end: end[0], default=(NEVER, "", None))

    def end_of_all(self, cohort):
        """Return when a scope has to go with all that is in it."""
        if cohort.stopping:
            return self.now
        expires = NEVER if cohort.ttl is None else cohort.born + cohort.ttl + 1
        return min(expires, self.idle_end(cohort))

    def is_superseded(self, cohort, command):
        """Tell whether a later run takes a command's place, where only one may be."""
        return self.lanes[cohort.lane].supersede and any(
            other.born > cohort.born
            and other.run not in ("", cohort.run)
            and command.yields_to(other.owner)
            for other in self.cohorts
            if cohort.run and cohort.lifetime == "gateway"
            if other.lane == cohort.lane and not other.alien
        )

    def idle_end(self, cohort):
        idle = self.lanes[cohort.lane].idle
        if idle is None or not cohort.living or cohort.lifetime == "detached":
            return NEVER
        at_work = cohort.seen is None or cohort.seen[1] != cohort.written
        return (self.now if at_work else cohort.seen[0]) + idle

    def doomed(self):
        """Return the commands that have to be stopped now."""
        return {
            command
            for cohort in self.cohorts
            if not cohort.alien
            for command in cohort.living
            if min(self.end_of_all(cohort), self.end_of(cohort, command)[0]) <= self.now
            or self.is_superseded(cohort, command)
        }

    # What it looks like

    def snapshot(self):
        return Snapshot(tuple(self.look(cohort) for cohort in self.cohorts), self.now)

    def look(self, cohort):
        unit = f"scopekeeper-s-{cohort.lane}-{cohort.number}.scope"
        place = f"/scopekeeper.slice/{unit}"
        known = {"problem": "it has no record of ours", "unrecorded": True}
        if cohort.alien != "foreign":
            seen = cohort.seen
            known = {
                "session_id": cohort.run,
                "lifetime": cohort.lifetime,
                "born": cohort.born,
                "age": (self.now - cohort.born) / 1e6,
                "ttl": cohort.ttl,
                "stopping": cohort.stopping,
                "elsewhere": cohort.alien == "elsewhere",
                "owner": cohort.owner,
                "activity": (0, cohort.written),
                "idle_since": None if seen is None else (seen[0], 0, seen[1]),
            }
        return Scope(
            unit, "/sys/fs/cgroup" + place, place, 0, "s", cohort.lane, str(cohort.number),
            manager="system",
            strays=tuple(range(9000, 9000 + cohort.strays)),
            members=tuple(self.member(place, command) for command in cohort.commands),
            **known,
        )  # fmt: skip

    @staticmethod
    def member(place, command):
        leaf = f"{place}/m-it.{command.number:08x}"
        known = {"problem": "its record is damaged"}
        if not command.damaged:
            known = {
                "pid": command.number,
                "leader_lives": command.lives and command.leads,
                "lifetime": command.lifetime,
                "owner_state": OwnerState(command.gateway.owner, command.gateway.state, "seen"),
                "orphaned": command.seen.get("ORPHANED"),
                "leaderless": command.seen.get("LEADERLESS"),
            }
        pids = (command.number,) if command.lives else ()
        name = f"{command.number:08x}"
        return Member("it", name, "/sys/fs/cgroup" + leaf, leaf, pids=pids, **known)


class Plans(RuleBasedStateMachine):
    """Whatever happens, in whatever order."""

    def __init__(self):
        super().__init__()
        self.world = World()
        self.numbers = itertools.count(1)
        self.gateways = []
        for number in (1, 2):
            self.gateways.append(Gateway(Owner(unit=f"{number}.service", epoch="1", cgroup="/x")))
            self.gateways.append(Gateway(Owner(pid=number, start_time=1)))

    # What happens

    @rule(which=WHICH, proved=st.sampled_from([True, True, False]))
    def gateway_ends(self, which, proved):
        gateway = self.some(self.gateways, which)
        if gateway.state is not Liveness.GONE:
            gateway.state = Liveness.GONE if proved else Liveness.UNKNOWN

    @rule(which=WHICH)
    def gateway_starts_again(self, which):
        gateway = self.some(self.gateways, which)
        gateway.state = Liveness.GONE
        number = next(self.numbers)
        new = {"epoch": f"{number}"} if gateway.owner.unit else {"start_time": number}
        self.gateways.append(Gateway(replace(gateway.owner, **new)))

    @rule(
        lane=st.sampled_from(list(LANES)),
        lifetime=st.sampled_from(["gateway", "gateway", "session", "detached"]),
        run=st.sampled_from(["1", "1", ""]),
        ttl=st.sampled_from([None, None, None, 20 * SECOND]),
        alien=st.sampled_from(["", "", "", "", "", "", "foreign", "elsewhere"]),
        strays=st.sampled_from([0, 0, 1]),
        members=st.lists(MEMBERS, max_size=4),
    )
    def cohort_comes(self, lane, lifetime, run, ttl, alien, strays, members):
        self.world.now += 1
        born = self.world.now
        owner = self.some(self.gateways, members[0][0] if members else 0).owner
        cohort = Cohort(
            next(self.numbers), lane, lifetime, born, run, ttl, alien, owner, strays=strays
        )
        self.world.cohorts.append(cohort)
        for member in members:
            self.member_comes(-1, member)

    @precondition(lambda self: self.world.cohorts)
    @rule(
        where=WHICH,
        alien=st.sampled_from(["", "", "elsewhere"]),
        members=st.lists(MEMBERS, min_size=1, max_size=2),
    )
    def next_run_of_a_session_comes(self, where, alien, members):
        before = self.some(self.world.cohorts, where)
        run = f"{before.run}+"
        self.cohort_comes(before.lane, before.lifetime, run, None, alien, 0, members)

    @precondition(lambda self: self.world.cohorts)
    @rule(where=WHICH, member=MEMBERS)
    def member_comes(self, where, member):
        cohort = self.some(self.world.cohorts, where)
        which, lifetime, leads, damaged = member
        gateway = self.some(self.gateways, which)
        if not cohort.stopping:
            lifetime = lifetime or cohort.lifetime
            command = Command(next(self.numbers), gateway, lifetime, damaged, leads)
            cohort.commands.append(command)

    @precondition(lambda self: self.world.living)
    @rule(which=WHICH, helper=st.sampled_from([True, True, True, False]))
    def command_ends(self, which, helper):
        command = self.some(self.world.living, which)
        command.leads, command.lives = False, helper

    @precondition(lambda self: any(cohort.seen for cohort in self.world.cohorts))
    @rule(where=WHICH)
    def scope_is_at_work(self, where):
        self.some([each for each in self.world.cohorts if each.seen], where).written += 1

    @precondition(lambda self: self.world.cohorts)
    @rule(where=WHICH, killed=st.sampled_from([False, False, True]))
    def scope_is_stopped(self, where, killed):
        """Who stops it may be killed meanwhile, and leave it as it is."""
        cohort = self.some(self.world.cohorts, where)
        if killed:
            cohort.stopping = not cohort.alien
        elif not cohort.alien:
            self.world.cohorts.remove(cohort)

    @precondition(lambda self: self.world.cohorts)
    @rule(where=WHICH, which=WHICH)
    def scope_is_adopted(self, where, which):
        cohort, gateway = self.some(self.world.cohorts, where), self.some(self.gateways, which)
        for command in cohort.living:
            free = command.gateway.state is not Liveness.ALIVE
            if free and not (command.damaged or cohort.alien or cohort.stopping):
                command.gateway = gateway
                command.seen.pop("ORPHANED", None)

    @rule(lane=st.sampled_from(list(LANES)), rules=st.sampled_from(RULES))
    def rules_change(self, lane, rules):
        self.world.lanes[lane] = rules
        self.world.policy = self.world.rules()

    @rule(passed=st.sampled_from([1, SECOND, 9 * SECOND, 61 * SECOND, DAY]))
    def time_passes(self, passed):
        self.world.now += passed

    @precondition(lambda self: self.world.cohorts)
    @rule(where=WHICH)
    def time_of_a_scope_runs_out(self, where):
        cohort = self.some(self.world.cohorts, where)
        self.world.now = max(self.world.now, cohort.born + (cohort.ttl or 0))

    @rule()
    def plan_is_carried_out(self):
        self.carry_out()

    @precondition(lambda self: self.world.living)
    @rule()
    def time_passes_until_something_is_due(self):
        """Nothing happens before the moment that the plan names, and something does then."""
        self.carry_out()
        due = min(self.dues(), default=None)
        if due is None:
            return
        before = self.stopped()
        self.world.now = due - 1
        assert all(self.expires(cohort) for cohort, _ in self.stopped() - before)
        self.check()
        self.world.now = due
        self.check()
        assert self.stopped() - before or due not in self.dues()

    # What has to hold

    @invariant()
    def check(self):
        world = self.world
        snapshot = world.snapshot()
        actions = plan(snapshot, world.policy)
        assert actions == plan(snapshot, world.policy)
        stopped = {command for _, command in self.stopped(actions) if command is not None}
        assert stopped == world.doomed()
        for action in actions:
            cohort, command = self.meant(action)
            self.check_who(action, cohort, command)
            if action.due is not None:
                assert action.due > world.now
                assert action.step is Step.KEEP
            if action.step is Step.REMOVE:
                assert not (command.lives if command else cohort.living or cohort.strays)
            if command is not None and action.step is Step.KEEP:
                end, mark, why = world.end_of(cohort, command)
                assert (action.due or NEVER) == end
                if why is not None and end != NEVER:
                    assert action.verdict is why
                    fresh = mark not in command.seen
                    assert action.mark == ((mark, str(world.now)) if fresh else None)
        removed = {self.meant(a)[0] for a in actions if a.step is Step.REMOVE and not a.member}
        assert removed == {each for each in world.cohorts if each.is_left_over}
        told = {self.meant(action)[0] for action in actions}
        assert told == set(world.cohorts), "of each scope something is said"

    def check_who(self, action, cohort, command):
        """Nothing is ended that nobody may end, whatever the rules of the lane."""
        if action.step is not Step.STOP:
            return
        assert not cohort.alien
        commands = cohort.living if command is None else [command]
        assert commands or cohort.strays
        assert command is None or not command.damaged
        for each in commands:
            if action.verdict in (Verdict.ORPHAN, Verdict.LEADERLESS):
                assert each.lifetime != "detached"
                assert not each.damaged
            if action.verdict is Verdict.ORPHAN:
                assert each.gateway.state is Liveness.GONE
        if action.verdict is Verdict.ORPHAN and command is None:
            assert not cohort.strays
        if action.verdict in (Verdict.SUPERSEDED, Verdict.IDLE):
            assert cohort.lifetime != "detached"

    def teardown(self):
        """Whatever has to go is gone in the end, and nothing else is."""
        world = self.world
        kept = {each for cohort in world.cohorts for each in cohort.living if self.stays(each)}
        for _ in range(4):
            self.carry_out()
            self.check()
            world.now += AGES
        assert not self.stopped()
        left = {command for cohort in world.cohorts for command in cohort.living}
        may_end = {
            each
            for cohort in world.cohorts
            for each in cohort.living
            if not cohort.alien and self.must_end(cohort, each)
        }
        assert not may_end, "a forgotten one"
        assert kept <= left

    def stays(self, command):
        """Tell, without a look at any rule but what ends whole scopes, whether one has to stay."""
        (cohort,) = [each for each in self.world.cohorts if command in each.commands]
        return bool(cohort.alien) or (
            not cohort.stopping
            and cohort.ttl is None
            and (cohort.lifetime == "detached" or not self.ends_by_rule(cohort))
            and (
                command.lifetime == "detached"
                or (command.leads and command.gateway.state is not Liveness.GONE)
            )
        )

    def ends_by_rule(self, cohort):
        lane = self.world.lanes[cohort.lane]
        return lane.idle is not None or lane.supersede

    def must_end(self, cohort, command):
        lane = self.world.lanes[cohort.lane]
        grace = lane.orphan_grace if command.lifetime == "gateway" else lane.session_grace
        lost = command.is_orphan and lane.orphans and grace != NEVER
        left = not command.leads and lane.leaderless and command.lifetime != "detached"
        whole = cohort.lifetime != "detached" and lane.idle is not None
        return (
            cohort.stopping
            or whole
            or cohort.ttl is not None
            or (not command.damaged and (lost or left))
        )

    # How it is looked at and carried out

    @staticmethod
    def some(those, which):
        return those[which % len(those)]

    def actions(self):
        return plan(self.world.snapshot(), self.world.policy)

    def meant(self, action):
        """Return the scope and the command that an action is about."""
        number = int(action.scope.run)
        cohort = next(each for each in self.world.cohorts if each.number == number)
        if action.member is None:
            return cohort, None
        number = int(action.member.member_id, 16)
        return cohort, next(each for each in cohort.commands if each.number == number)

    def stopped(self, actions=None):
        """Return what would be stopped: scopes with each of their commands, and with None."""
        found = set()
        for action in self.actions() if actions is None else actions:
            if action.step is Step.STOP:
                cohort, command = self.meant(action)
                commands = [*cohort.living, None] if command is None else [command]
                found |= {(cohort, each) for each in commands}
        return found

    def expires(self, cohort):
        """Tell whether a scope's own time is over, of which systemd or the keeper knows."""
        return cohort.ttl is not None and self.world.now > cohort.born + cohort.ttl

    def dues(self):
        return {action.due for action in self.actions() if action.due is not None}

    def carry_out(self):
        for action in self.actions():
            cohort, command = self.meant(action)
            if action.mark is not None:
                self.write(cohort, command, *action.mark)
            if action.step in (Step.STOP, Step.REMOVE):
                for each in cohort.commands if command is None else [command]:
                    each.lives = False
                if command is None:
                    cohort.strays = 0
                    self.world.cohorts.remove(cohort)
                else:
                    cohort.commands.remove(command)

    def write(self, cohort, command, key, value):
        """Write a mark; time is never counted anew, or from a moment that is not now."""
        if command is None:
            assert key == "IDLE"
            moment, cpu, written = (int(part) for part in value.split())
            assert (moment, cpu, written) == (self.world.now, 0, cohort.written)
            assert cohort.seen is None or cohort.seen[0] <= moment
            cohort.seen = (moment, written)
            return
        assert key not in command.seen
        assert int(value) == self.world.now
        command.seen[key] = int(value)


# the same ones always; a failure is shown as it was found: to make it small takes minutes
Plans.TestCase.settings = settings(
    max_examples=200,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
)
TestPlans = Plans.TestCase


def test_an_idle_scope_ends_whole_although_a_later_run_takes_a_part_of_it() -> None:
    plans = Plans()
    plans.rules_change("sub", Lane(supersede=True, idle=60 * SECOND))
    ours, anothers = (0, "", True, False), (1, "", True, False)
    plans.cohort_comes("sub", "gateway", "1", None, "", 0, [ours, anothers])
    plans.plan_is_carried_out()
    plans.time_passes(61 * SECOND)
    plans.next_run_of_a_session_comes(0, "", [ours])
    plans.check()
