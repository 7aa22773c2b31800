"""The state machine: each rule does one thing to the real program and to the model."""

import signal

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from tests.machine import cgroup_of
from tests.systemd.manager import manager_version, systemctl

from .example import Example
from .shadow import LANES, TIMED, Gateway, Member

INDEX = st.integers(0, 63)
"""Chooses among what there is at the time: modulo its length."""
LIFETIMES = ("gateway", "gateway", "session", "detached")
DEATHS = {signal.SIGUSR1: "exited", signal.SIGKILL: "signalled", signal.SIGSEGV: "signalled"}


class Moves(Example):
    """What may be done next."""

    # gateways

    @initialize(lane=st.sampled_from(LANES), lifetime=st.sampled_from(LIFETIMES))
    def begin(self, lane: str, lifetime: str) -> None:
        """Start with something that can be stopped, left, adopted and taken back."""
        for gateway, path in enumerate(("own", "scratch")):
            self.start_gateway(service=False)
            self.run(gateway, gateway, 0, lane, "mcp", lifetime, helper=True, stubborn=False,
                     replaces=False, path=path)  # fmt: skip

    @precondition(lambda self: len(self.shadow.up()) < 4)
    @rule(service=st.booleans())
    def start_gateway(self, service: bool) -> None:
        number = len(self.shadow.gateways)
        unit = f"proof-gateway-{number % 2}.service" if service else ""
        if any(each.unit == unit for each in self.shadow.up() if unit):
            unit = ""
        gateway = Gateway(f"g{number}", unit)
        (self.rig.service if unit else self.rig.bare)(gateway)
        self.shadow.gateways.append(gateway)
        self._after(f"gateway {gateway.name} starts as {unit or 'a process'}")

    @precondition(lambda self: self.shadow.up())
    @rule(which=INDEX, how=st.sampled_from(["kill", "stop"]))
    def end_gateway(self, which: int, how: str) -> None:
        gateway = self._up(which)
        self.rig.end_gateway(gateway, how)
        self.shadow.gateway_ends(gateway)
        self._after(f"gateway {gateway.name} ends by {how}")

    # launches

    @precondition(Example._has_room)
    @rule(
        gateway=INDEX, session=INDEX, name=INDEX, lane=st.sampled_from(LANES),
        kind=st.sampled_from(["mcp", "exec"]), lifetime=st.sampled_from(LIFETIMES),
        helper=st.booleans(), stubborn=st.booleans(), replaces=st.booleans(),
        path=st.sampled_from(["", "", "own", "scratch"]),
    )  # fmt: skip
    def run(
        self, gateway: int, session: int, name: int, lane: str, kind: str, lifetime: str,
        helper: bool, stubborn: bool, replaces: bool, path: str,
    ) -> None:  # fmt: skip
        member = self._new(
            self._up(gateway), name=("files", "git", "time")[name % 3], helps=helper,
            session=self._sessions(session), lane=lane, kind=kind, lifetime=lifetime,
        )  # fmt: skip
        options = ["--replace"] if replaces else []
        if path == "own":
            member.paths.append(self.rig.tree(member.tag))
            options += ["--own", str(member.paths[0])]
        options += ["--scratch"] if path == "scratch" else []
        argv = self.rig.words(member, ("run",), *options)
        more = {"PROOF_STUBBORN": "1"} if stubborn else {}
        what = f"run {_about(member)} {' '.join(options)}"
        self._began(lambda: self.rig.launch(member, argv, **more), what)
        if path == "scratch":
            member.paths.append(self.rig.scratch_of(member))
        ended = self.shadow.replaced(member) if replaces else []
        self._after(f"{what} replaces {[each.tag for each in ended]}")

    @precondition(Example._has_room)
    @rule(gateway=INDEX, helper=st.booleans())
    def run_for_a_time(self, gateway: int, helper: bool) -> None:
        owner = self._up(gateway, bare=True)
        session = f"{self.rig.session}:t{self.count}"
        member = self._new(owner, session=session, lane=TIMED, kind="mcp", lifetime="gateway",
                           helps=helper)  # fmt: skip
        argv = self.rig.words(member, ("run",))
        what = f"run for a time {_about(member)}"
        self._began(lambda: self.rig.launch(member, argv), what)
        self._after(what)

    @precondition(Example._has_room)
    @rule(gateway=INDEX, session=INDEX)
    def run_what_is_missing(self, gateway: int, session: int) -> None:
        """A launch that fails hands no path over, and leaves nothing."""
        owner = self._up(gateway, bare=True)
        self.count += 1
        path = self.rig.tree(f"failed{self.count}")
        self._ask("run", "-s", self._sessions(session), "--owner", str(owner.pid),
                  "--own", str(path), "--", "/nonexistent", answers=(127,))  # fmt: skip
        self.shadow.kept.append(path)
        self._after("run what is missing")

    @precondition(Example._has_room)
    @rule(gateway=INDEX, session=INDEX, lane=st.sampled_from(LANES), helper=st.booleans(),
          wraps=st.booleans())  # fmt: skip
    def connect(self, gateway: int, session: int, lane: str, helper: bool, wraps: bool) -> None:
        member = self._new(
            self._up(gateway, bare=True), session=self._sessions(session), lane=lane, kind="mcp",
            lifetime="gateway", helps=helper, client=True,
        )  # fmt: skip
        what = f"connect {_about(member)}{' as wrap wrote it' if wraps else ''}"
        argv, environment = self.rig.words(member, ("run",)), {}
        if wraps:
            argv, environment = self.rig.wrapped(member)
        self._began(lambda: self.rig.connect(member, argv, environment), what)
        self._after(what)

    @precondition(lambda self: any(each.client and not each.hung_up for each in self._commands()))
    @rule(which=INDEX)
    def hang_up(self, which: int) -> None:
        found = [each for each in self._commands() if each.client and not each.hung_up]
        member = found[which % len(found)]
        self.rig.hang_up(member)
        member.hung_up = True
        self._after(f"hang up on {member.tag}")

    @precondition(Example._has_room)
    @rule(gateway=INDEX, session=INDEX, lane=st.sampled_from(LANES), helper=st.booleans())
    def place(self, gateway: int, session: int, lane: str, helper: bool) -> None:
        member = self._new(
            self._up(gateway, bare=True), session=self._sessions(session), lane=lane, kind="mcp",
            lifetime="gateway", helps=False, waits=True, was_born=False,
        )  # fmt: skip
        self.wanted[member.tag] = helper
        what = f"place {_about(member)}"
        self._began(lambda: self.rig.place(member, "1h"), what)
        self._after(what)

    def _places(self) -> list[Member]:
        """Return those in which a child can live long enough to be seen."""
        found = [each for each in self.shadow.living() if each.waits]
        return [each for each in found if each.owner.lives or not self.shadow.has_keeper]

    @precondition(_places)
    @rule(which=INDEX)
    def bear(self, which: int) -> None:
        found = self._places()
        member = found[which % len(found)]
        member.helps = self.wanted[member.tag]
        what = f"bear a child in {member.tag}"
        self._began(lambda: self.rig.bear(member), what)
        member.waits, member.was_born = False, True
        self._after(what)

    @precondition(lambda self: self.shadow.has_keeper and self._has_room())
    @rule(gateway=INDEX, session=INDEX, lane=st.sampled_from(LANES), helper=st.booleans())
    def exec(self, gateway: int, session: int, lane: str, helper: bool) -> None:
        member = self._new(
            self._up(gateway, bare=True), session=self._sessions(session), lane=lane, kind="pty",
            lifetime="session", helps=helper,
        )  # fmt: skip
        argv = self.rig.words(member, ("exec", "-d"))
        what = f"exec {_about(member)}"
        self._began(lambda: self.rig.launch(member, argv), what)
        self._after(what)

    # what members do

    @precondition(Example._commands)
    @rule(which=INDEX, how=st.sampled_from(list(DEATHS)))
    def die(self, which: int, how: signal.Signals) -> None:
        found = self._commands()
        member = found[which % len(found)]
        self.rig.signal(member.command, how, ends=True)
        self.shadow.command_ends(member, DEATHS[how])
        self._after(f"die {member.tag} by {how.name}")

    @precondition(Example._commands)
    @rule(which=INDEX, how=st.sampled_from([signal.SIGSTOP, signal.SIGCONT]))
    def halt(self, which: int, how: signal.Signals) -> None:
        found = self._commands()
        member = found[which % len(found)]
        self.rig.signal(member.command, how, ends=False)
        self._after(f"halt {member.tag} by {how.name}")

    @precondition(lambda self: any(each.helps and not each.is_out for each in self._commands()))
    @rule(which=INDEX)
    def leave(self, which: int) -> None:
        found = [each for each in self._commands() if each.helps and not each.is_out]
        member = found[which % len(found)]
        self.rig.move(member.helper, self.rig.yard)
        member.is_out = True
        self._after(f"leave: the helper of {member.tag}")

    @precondition(lambda self: any(each.is_out and each.helps for each in self._commands()))
    @rule(which=INDEX)
    def come_back(self, which: int) -> None:
        found = [each for each in self._commands() if each.is_out and each.helps]
        member = found[which % len(found)]
        self.rig.move(member.helper, cgroup_of(member.command))
        member.is_out = False
        self._after(f"come back: the helper of {member.tag}")

    # paths

    @precondition(lambda self: any(self._alone(each) for each in self._commands()))
    @rule(which=INDEX)
    def own(self, which: int) -> None:
        found = [each for each in self._commands() if self._alone(each)]
        member = found[which % len(found)]
        self.count += 1
        path = self.rig.tree(f"handed{self.count}")
        self._ask("own", "-s", member.session, "-l", member.lane, "-n", member.name,
                  "--keep-until-end", str(path))  # fmt: skip
        member.paths.append(path)
        self._after(f"own: {path.name} of {member.tag}")

    def _alone(self, member: Member) -> bool:
        """Return whether its names mean no other member."""
        key = member.session, member.lane, member.name
        return sum((x.session, x.lane, x.name) == key for x in self.shadow.living()) == 1

    @precondition(lambda self: any(each.paths for each in self._commands()))
    @rule(which=INDEX)
    def disown(self, which: int) -> None:
        found = [(each, path) for each in self._commands() for path in each.paths]
        member, path = found[which % len(found)]
        (path / "used").touch()
        self._ask("disown", str(path))
        member.paths.remove(path)
        self.shadow.kept.append(path)
        self._after(f"disown: {path.name} of {member.tag}")

    # what an operator does

    @precondition(lambda self: self.shadow.living())
    @rule(which=INDEX, what=st.sampled_from(["member", "lane", "session", "scope"]))
    def stop(self, which: int, what: str) -> None:
        living = self.shadow.living()
        member = living[which % len(living)]
        words = {
            "member": ["-s", member.session, "-l", member.lane, "-n", member.name],
            "lane": ["-s", member.session, "-l", member.lane],
            "session": ["-s", member.session],
            "scope": [member.unit],
        }[what]
        same = [
            each for each in living
            if each.session == member.session
            and (what == "session" or each.lane == member.lane)
            and (what != "member" or each.name == member.name)
            and (what != "scope" or each.unit == member.unit)
        ]  # fmt: skip
        # what had left them lives on, and is named
        out = any(each.session == member.session for each in self.shadow.outside())
        gone = what == "scope" and all(each.due() for each in same)
        self._ask("stop", *words, answers=(0, *([6] if out else []), *([4] if gone else [])))
        self.shadow.stop(same)
        self._after(f"stop the {what} of {member.tag}: {[each.tag for each in same]}")

    @precondition(lambda self: self.shadow.outside())
    @rule(which=INDEX)
    def stop_escaped(self, which: int) -> None:
        found = self.shadow.outside()
        session = found[which % len(found)].session
        self._ask("stop", "-s", session, "--escaped")
        self.shadow.stop([each for each in self.shadow.living() if each.session == session])
        for each in found:
            if each.session == session:
                each.helps = False
        self._after(f"stop {session} and what had left it")

    @precondition(lambda self: self.trace[-1] != "reconcile")
    @rule()
    def reconcile(self) -> None:
        self._reconcile()

    @precondition(lambda self: any(self._left_by(each) for each in self.shadow.gateways))
    @rule(former=INDEX, new=INDEX)
    def adopt(self, former: int, new: int) -> None:
        found = [each for each in self.shadow.gateways if self._left_by(each)]
        old, gateway = found[former % len(found)], self._up(new)
        self._ask("adopt", "--from", str(old.pid), "--owner", str(gateway.pid))
        adopted = self.shadow.adopt(old, gateway)
        self._after(f"adopt by {gateway.name} what {old.name} left: {[x.tag for x in adopted]}")

    def _left_by(self, gateway: Gateway) -> bool:
        """Return whether it is a process that has ended, and all it left may be adopted."""
        left = [each for each in self.shadow.living() if each.owner is gateway]
        is_sure = not any(each.waits or each.is_bound for each in left)
        return bool(left and is_sure and not gateway.lives and not gateway.unit
                    and self.shadow.up())  # fmt: skip

    # the keeper and the manager

    @rule(how=st.sampled_from(["start", "stop", "kill", "restart"]))
    def keeper(self, how: str) -> None:
        shadow = self.shadow
        if how != "start" and not shadow.has_keeper:
            how = "start"
        if (
            how == "stop"
            and manager_version() < 254
            and any(x.kind == "pty" for x in shadow.living())
        ):
            how = "kill"  # their terminals would hang up
        self.rig.keeper_is(how)
        shadow.has_keeper = how != "stop"
        self._after(f"keeper: {how}")

    @rule(how=st.sampled_from(["daemon-reexec", "daemon-reload"]))
    def manager(self, how: str) -> None:
        assert systemctl(how).returncode == 0
        self._after(f"manager: {how}")


def _about(member: Member) -> str:
    words = f"{member.tag} {member.name} of {member.owner.name} in {member.session}"
    helper = ", with a helper" if member.helps else ""
    return f"{words}, lane {member.lane}, {member.kind}, {member.lifetime}{helper}"
