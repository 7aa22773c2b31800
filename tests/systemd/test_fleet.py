"""A fleet of gateways that are killed, restarted and stopped at random, and so is the keeper.

What then lives, and which owned paths stand, is compared to what has to: each test hand writes
down what it did, and never looks at what became of it.

``SCOPEKEEPER_FLEET_SECONDS`` is how long that goes on (6; 20 with ``--thorough``), at least: on a
slow machine it goes on until enough has happened. ``SCOPEKEEPER_FLEET_SEED`` repeats the choices of
a run that failed (the machine's own timing is not repeated).
"""

import json
import os
import random
import shlex
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.machine import (
    PATIENCE,
    PROGRAM,
    THOROUGH,
    Scopekeeper,
    environment_of,
    eventually,
    is_alive,
    is_emulated,
    processes,
    record_of,
    scope_directories,
    text_of,
)

from .manager import Units, main_pid, systemctl

SECONDS = float(os.environ.get("SCOPEKEEPER_FLEET_SECONDS", "20" if THOROUGH else "6"))
pytestmark = [pytest.mark.systemd, pytest.mark.timeout(SECONDS + 600)]

HANDS, GATEWAYS = 1 if is_emulated() else 5, 10
"""Threads, and the gateways that each of them has."""
LEAST = 8
"""Things that a hand does, however long they take."""
MOST = 30
"""Members that a hand lets live on before it stops some of them."""
KEEPER = "scopekeeper-fleet-keeper.service"
RULES = """\
[lanes.default]
on_leader_exit = "linger"
[lanes.slow]
orphan_grace = "1s"
[lanes.told]
orphans = "report"
[lanes.brief]
session_grace = "0s"
[lanes.tidy]
on_leader_exit = "stop"
leader_grace = "100ms"
"""
GATEWAY = """\
exec 3<> "$1"
while read -r line <&3; do (eval "exec $line") 3<&- & done
"""
PLAIN, HELPER, STUBBORN = (
    "echo $$ > {0}; exec sleep infinity",
    "setsid sleep infinity & echo $$ > {0}; exec sleep infinity",
    "trap '' TERM; echo $$ > {0}; exec sleep infinity",
)


@dataclass(eq=False)
class Life:
    """One life of a gateway."""

    goes_on: bool = True


@dataclass(eq=False)
class Member:
    """What was started, and what has been done to it since."""

    tag: str
    life: Life
    session: str
    lane: str
    lifetime: str
    script: str
    path: Path | None
    history: list[str] = field(default_factory=list)
    leads: bool = True
    stopped: bool = False

    @property
    def lives(self) -> int:
        """How many processes of it have to live once everything is settled."""
        orphaned = not self.life.goes_on and self.lifetime != "detached"
        ends = self.lifetime == "gateway" or self.lane == "brief"
        if self.stopped or (orphaned and ends and self.lane != "told"):
            return 0
        if self.leads:
            return 1 + (self.script is HELPER)
        lingers = self.lane != "tidy" or self.lifetime == "detached"
        return int(self.script is HELPER and lingers)


class Gateway:
    """A bare process that executes what is written into its pipe, as the owner of that."""

    kind = "bare"

    def __init__(self, yard: "Yard", name: str, choose: random.Random) -> None:
        self.yard, self.name, self.choose = yard, name, choose
        self.life = Life(goes_on=False)
        self.pipe = yard.folder / f"{name}.pipe"
        os.mkfifo(self.pipe)

    def start(self) -> None:
        self.process = self.yard.program.popen(["sh", str(self.yard.script), str(self.pipe)])
        self.life = Life()

    def launch(self, tag: str, *words: str) -> None:
        line = shlex.join(["env", f"FLEET={tag}", PROGRAM, "run", *self.owner(), *words])
        pipe = eventually(self._open)
        os.write(pipe, f"{line} < /dev/null 2>> {self.yard.log}\n".encode())
        os.close(pipe)

    def owner(self) -> tuple[str, ...]:
        return "--owner", str(self.process.pid)

    def _open(self) -> int:
        try:
            return os.open(self.pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return 0  # nobody reads from it yet

    def kill(self) -> None:
        self.life.goes_on = False
        self.process.kill()
        self.process.wait()

    stop = kill

    def restart(self) -> None:
        self.kill()
        self.start()


class Service(Gateway):
    """The same as a service; it comes again when it is killed."""

    kind = "service"

    def __init__(self, yard: "Yard", name: str, choose: random.Random) -> None:
        super().__init__(yard, name, choose)
        self.unit = f"{yard.template}@{name}.service"
        yard.units.adopt(self.unit)

    def start(self) -> None:
        assert systemctl("start", self.unit).returncode == 0
        self._lives()

    def _lives(self) -> None:
        self.life = Life()
        self.pid = eventually(lambda: main_pid(self.unit))

    def owner(self) -> tuple[str, ...]:
        return ()

    def kill(self) -> None:
        """Kill it; systemd starts it again, which is then stopped before it does anything."""
        self._crash()
        self.stop()

    def _crash(self) -> None:
        self.life.goes_on = False
        os.kill(self.pid, signal.SIGKILL)
        eventually(lambda: main_pid(self.unit) not in (0, self.pid))

    def stop(self) -> None:
        self.life.goes_on = False
        assert systemctl("stop", self.unit).returncode == 0

    def restart(self) -> None:
        if self.choose.random() < 0.5:
            self._crash()
        else:
            self.life.goes_on = False
            assert systemctl("restart", self.unit).returncode == 0
        self._lives()


class Yard:
    """What all of the fleet has in common."""

    def __init__(self, program: Scopekeeper, units: Units, folder: Path, seed: str) -> None:
        self.program, self.units, self.folder, self.seed = program, units, folder, seed
        self.session = f"fleet:{os.urandom(4).hex()}"
        self.template = f"fleet-{os.urandom(4).hex()}"
        self.log = folder / "launches"
        self.log.touch()
        self.script = folder / "gateway"
        self.script.write_text(GATEWAY)
        environment = " ".join(
            f"{name}={os.environ[name]}"
            for name in ("PATH", "SCOPEKEEPER_CONFIG", "SCOPEKEEPER_STATE")
        )
        units.write(
            f"{self.template}@.service",
            f"""\
[Unit]
StartLimitIntervalSec=0
[Service]
Restart=always
RestartSec=20ms
Environment={environment}
ExecStart=/bin/sh {self.script} {folder}/%i.pipe
""",
        )
        units.write(
            KEEPER,
            f"""\
[Unit]
StartLimitIntervalSec=0
[Service]
Type=notify
Restart=always
RestartSec=50ms
Environment={environment}
ExecStart={PROGRAM} keeper --linger infinity
""",
        )


class Hand:
    """One thread: its gateways, what it started, and what it does next."""

    def __init__(self, yard: Yard, number: int) -> None:
        self.yard = yard
        self.choose = random.Random(f"{yard.seed}/{number}")
        self.number = number
        self.members: list[Member] = []
        self.count = 0
        self.gateways = [
            (Service if each % 5 < 2 else Gateway)(yard, f"{number}x{each}", self.choose)
            for each in range(GATEWAYS)
        ]

    def work(self, until: float) -> None:
        for gateway in self.gateways:
            gateway.start()
            self.cohort(gateway, most=1)
        doings = (
            (self.cohort, 6), (self.restart, 4), (self.restart_in_the_middle, 2), (self.end, 1),
            (self.kill_leaders, 3), (self.stop_members, 2), (self.hand_over, 2),
        )  # fmt: skip
        names, weights = zip(*doings, strict=True)
        done = 0
        while done < LEAST or time.monotonic() < until:
            done += 1
            (do,) = self.choose.choices(names, weights)
            if len(self.left()) > MOST:
                do = self.stop_members
            do(self.choose.choice(self.gateways))

    def left(self) -> list[Member]:
        return [member for member in self.members if member.lives]

    def cohort(self, gateway: Gateway, most: int = 4) -> None:
        """Have a gateway start a few members, and wait until they run."""
        if not gateway.life.goes_on:
            gateway.start()
        started = [self.launch(gateway) for _ in range(self.choose.randint(1, most))]
        for member in started:
            self.wait_for(member)

    def wait_for(self, member: Member) -> None:
        """Wait until a member runs; fails with what it and the launches had to say."""
        try:
            eventually(lambda: self.pid(member))
        except AssertionError as error:
            said = f"{member.tag} in {member.session}, lane {member.lane}: {member.history}"
            raise AssertionError(f"{said}; {text_of(self.yard.log)[-4000:]}") from error

    def launch(self, gateway: Gateway, *, simple: bool = False) -> Member:
        choose, yard = self.choose, self.yard
        self.count += 1
        tag = f"{self.number}.{self.count}"
        lane = choose.choice(["main", "main", "slow", "told", "brief", "tidy"])
        lifetime = choose.choice(["gateway", "gateway", "gateway", "session", "detached"])
        script = choose.choice([PLAIN, PLAIN, HELPER, STUBBORN])
        path = yard.folder / f"own.{tag}" if choose.random() < 0.4 else None
        if simple:
            lane, lifetime, path = "main", "gateway", None
        if gateway.kind == "service" and lane == "told" and lifetime == "gateway":
            lane = "main"  # systemd ends it with the service, whatever its lane says
        session = f"{yard.session}:{choose.choice([gateway.name, 'all'])}"
        words = ["-s", session, "-l", lane, "-n", tag, "--lifetime", lifetime, "--grace", "300ms"]
        if path is not None:
            path.mkdir()
            (path / "servers.json").touch()
            words += ["--own", str(path)]
        words += ["--", "sh", "-c", script.format(yard.folder / f"pid.{tag}")]
        member = Member(tag, gateway.life, session, lane, lifetime, script, path)
        member.history.append(f"{time.time():.2f} by {gateway.kind} {gateway.name}")
        self.members.append(member)
        gateway.launch(tag, *words)
        return member

    def pid(self, member: Member) -> int:
        return int(text_of(self.yard.folder / f"pid.{member.tag}") or 0)

    def restart(self, gateway: Gateway) -> None:
        """End a life of a gateway; the next one begins at once, with a cohort of its own."""
        if not gateway.life.goes_on:
            gateway.start()
        self.note(gateway, "restart")
        gateway.restart()
        self.cohort(gateway)

    def restart_in_the_middle(self, gateway: Gateway) -> None:
        """The same, while it starts members: each runs for a moment, or does not come to be."""
        if not gateway.life.goes_on:
            gateway.start()
        for _ in range(3):
            self.launch(gateway, simple=True)
        time.sleep(self.choose.uniform(0, 0.1))
        self.restart(gateway)

    def end(self, gateway: Gateway) -> None:
        """End a life; the next one begins when something is to be started again."""
        if gateway.life.goes_on:
            self.note(gateway, "end")
            self.choose.choice([gateway.kill, gateway.stop])()

    def end_all(self) -> None:
        for gateway in self.gateways:
            self.end(gateway)

    def note(self, gateway: Gateway, what: str) -> None:
        for member in self.members:
            if member.life is gateway.life:
                member.history.append(f"{time.time():.2f} {what} of the gateway")

    def kill_leaders(self, _: Gateway) -> None:
        """Kill commands, and nothing that they started."""
        running = [member for member in self.left() if member.leads and self.pid(member)]
        for member in self.choose.sample(running, min(2, len(running))):
            member.leads = False
            member.history.append(f"{time.time():.2f} killed")
            pid = self.pid(member)
            # in the middle of its exec it has no environment
            eventually(lambda pid=pid: environment_of(pid) or not is_alive(pid))
            if environment_of(pid).get("FLEET") == member.tag:
                os.kill(pid, signal.SIGKILL)

    def stop_members(self, _: Gateway) -> None:
        """Stop some by name."""
        left = self.left()
        for member in self.choose.sample(left, min(3, len(left))):
            member.stopped = True
            member.history.append(f"{time.time():.2f} stopped")
            done = self.yard.program.call("stop", "-s", member.session, "-n", member.tag)
            assert done.returncode == 0, done.stdout + done.stderr

    def hand_over(self, _: Gateway) -> None:
        """Kill a gateway; another adopts what it can get of it."""
        bare = [each for each in self.gateways if each.kind == "bare" and each.life.goes_on]
        if len(bare) < 2:
            return
        former, new = self.choose.sample(bare, 2)
        former_life = former.life
        self.note(former, "handing over")
        former.kill()
        done = self.yard.program.call(
            "adopt", "--from", str(former.process.pid), "--owner", str(new.process.pid), "--json"
        )
        assert done.returncode in (0, 1, 4), done.stderr
        adopted = {each["member"] for each in json.loads(done.stdout)["members"] if each["adopted"]}
        for member in self.members:
            if member.tag in adopted and member.life is former_life:
                member.life = new.life
                member.history.append(f"{time.time():.2f} adopted by {new.name}")


def disturb(choose: random.Random, over: threading.Event, did: list[str]) -> None:
    """Kill or restart the keeper now and then; it comes again."""
    while not over.wait(choose.uniform(0.2, 2)):
        pid = main_pid(KEEPER)
        how = choose.choice(["kill", "kill", "restart"])
        did.append(f"{time.time():.2f} {how} of the keeper")
        if how == "restart":
            assert systemctl("restart", KEEPER).returncode == 0
        elif pid:
            os.kill(pid, signal.SIGKILL)
            eventually(lambda pid=pid: main_pid(KEEPER) not in (0, pid))


def living() -> dict[str, list[int]]:
    """Return the processes of each member, by what they have in their environment."""
    found: dict[str, list[int]] = {}
    for pid in (int(name) for name in os.listdir("/proc") if name.isdecimal()):
        tag = environment_of(pid).get("FLEET")
        if tag and is_alive(pid):
            found.setdefault(tag, []).append(pid)
    return found


def difference(yard: Yard, members: list[Member]) -> list[str]:
    """Return what is not as it has to be."""
    there, wrong = living(), []
    for member in members:
        pids = there.pop(member.tag, [])
        if len(pids) != member.lives:
            wrong.append(f"{member}: {len(pids)} processes live, not {member.lives}")
        # what was never started keeps its path: it was given back
        begun = (yard.folder / f"pid.{member.tag}").exists()
        if member.path is not None and begun and member.path.exists() != bool(member.lives):
            wrong.append(f"{member}: its path is {'there' if member.path.exists() else 'gone'}")
    wrong += [f"{tag}: {pids} of nobody" for tag, pids in there.items()]
    wrong += misplaced(members)
    return wrong


def misplaced(members: list[Member]) -> Iterator[str]:
    """Yield what is in another scope than it has to be, and scopes for which there is no reason."""
    by_tag = {member.tag: member for member in members}
    contained = set()
    for directory in scope_directories():
        record = record_of(directory)
        inside = processes(directory)
        contained |= inside
        tags = {environment_of(pid).get("FLEET", "") for pid in inside}
        if not tags:
            yield f"{directory}: nothing lives in it"
        for tag in tags & by_tag.keys():
            member = by_tag[tag]
            if (record.get("SESSION"), record.get("LANE")) != (member.session, member.lane):
                yield f"{member} is in {directory}"
    for tag, pids in living().items():
        if not contained.issuperset(pids):
            yield f"{tag}: {pids} are in no scope"


@pytest.fixture
def yard(
    keeper: Scopekeeper, units: Units, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Yard:
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "config.toml").write_text(RULES)
    monkeypatch.setenv("SCOPEKEEPER_CONFIG", str(rules))
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state"))
    seed = os.environ.get("SCOPEKEEPER_FLEET_SEED", "") or os.urandom(4).hex()
    print(f"SCOPEKEEPER_FLEET_SEED={seed}")
    return Yard(keeper, units, tmp_path, seed)


def settle(yard: Yard, members: list[Member], did: list[str]) -> None:
    """Wait until all is as it has to be, and a look by somebody else changes nothing of it."""
    began = changed = time.monotonic()
    fewest = 0
    while wrong := difference(yard, members):
        if not fewest or len(wrong) < fewest:
            fewest, changed = len(wrong), time.monotonic()
        # the more there is to end, the longer it takes: but it goes on
        if time.monotonic() > changed + PATIENCE:
            print(*did[-20:], *text_of(yard.log).splitlines()[-40:], sep="\n")
            pytest.fail("\n".join(wrong))
        time.sleep(0.1)
    print(f"settled after {time.monotonic() - began:.1f} s")
    done = yard.program.call("reconcile")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not difference(yard, members)


def test_what_has_to_live_lives_and_nothing_else_whatever_was_killed(yard: Yard) -> None:
    assert systemctl("start", KEEPER).returncode == 0
    hands = [Hand(yard, number) for number in range(HANDS)]
    over, did = threading.Event(), []
    with ThreadPoolExecutor(HANDS + 1) as pool:
        keeper = pool.submit(disturb, random.Random(yard.seed), over, did)
        try:
            until = time.monotonic() + SECONDS
            for work in [pool.submit(hand.work, until) for hand in hands]:
                work.result()
        finally:
            over.set()
        keeper.result()
    members = [member for hand in hands for member in hand.members]
    print(f"{len(members)} members, {len(did)} times the keeper was killed or restarted")
    settle(yard, members, did)
    assert any(member.lives for member in members)
    with ThreadPoolExecutor(HANDS) as pool:
        list(pool.map(Hand.end_all, hands))
    settle(yard, members, did)
    with ThreadPoolExecutor(HANDS) as pool:
        sessions = {member.session for member in members}
        for done in pool.map(lambda each: yard.program.call("stop", "-s", each), sessions):
            assert done.returncode == 0, done.stdout + done.stderr
    for member in members:
        member.stopped = True
    settle(yard, members, did)
