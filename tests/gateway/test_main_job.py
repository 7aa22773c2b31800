"""The main job, with real MCP servers: a gateway is killed, and all that it started ends.

What lives and what does not is told by the witness, which reads /proc and cgroupfs by itself.
"""

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("mcp")

from tests.gateway import drive
from tests.gateway.witness import (
    Process,
    Witness,
    carriers,
    cgroup_of,
    inhabitants,
    mount_point,
    remove,
    wait_for_end,
)
from tests.machine import eventually

LANE = "nested:agent:spark:main"
NAMES = {
    *("time", "time-berlin", "time-tokyo", "fetch", "fetch-docs", "fetch-agent"),
    *("git", "git-review", "git-deploy"),
}
DEAF = {"time-tokyo", "fetch-agent", "git-deploy"}
HELPED = {"time-berlin", "fetch-docs", "git-review", "git-deploy"}
# An emulated machine takes a minute for what takes five seconds elsewhere.
PATIENCE_S = 240.0
BUS_VARIABLES = {"XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "INVOCATION_ID", "NOTIFY_SOCKET"}

pytestmark = [pytest.mark.mcp, pytest.mark.timeout(600)]
needs_systemd = pytest.mark.skipif(
    not Path("/run/systemd/system").is_dir(), reason="systemd is not PID 1"
)
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="not root")


@dataclass(frozen=True, slots=True)
class Case:
    """One session of its own: what is needed to start its gateway and to watch it."""

    session: str
    witness: Witness
    environment: dict[str, str]
    start: Callable[..., AbstractContextManager[drive.Gateway]]

    def json(self, *arguments: str) -> dict:
        answer = drive.scopekeeper(*arguments, "--json", env=self.environment)
        assert answer.returncode == 0, answer.stderr
        return json.loads(answer.stdout)

    def scopes(self) -> list[dict]:
        return self.json("ls", "-s", self.session, "-l", LANE)["scopes"]


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    name = uuid.uuid4().hex[:8]
    session = f"agent:{name}:main"
    mark = tmp_path / name
    environment = drive.environment(mark)
    options = ["-s", session, "-l", LANE, "--repository", str(drive.repository(tmp_path / "repo"))]

    def start(*more: str, within: tuple[str, ...] = ()) -> AbstractContextManager[drive.Gateway]:
        return drive.gateway([*options, *more], environment, within=within, seconds=PATIENCE_S)

    with Witness(str(mark)) as witness:
        yield Case(session, witness, environment, start)


@pytest.fixture(
    params=[
        pytest.param("manager", marks=[pytest.mark.systemd, needs_systemd]),
        pytest.param("cgroup", marks=[pytest.mark.root, needs_root]),
    ]
)
def placement(request: pytest.FixtureRequest) -> Iterator[str]:
    """The manager of whoever runs this, or a plain folder below the cgroup that this runs in."""
    if request.param == "manager":
        yield "auto"
        return
    own = mount_point() / cgroup_of("self").lstrip("/")
    folder = own / f"gateway-test-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    yield f"cgroup:{folder}"
    remove(folder)


def test_reconcile_ends_all_that_a_killed_gateway_started(case: Case, placement: str) -> None:
    with case.start("--own", "--placement", placement) as gateway:
        started = settled(case.witness, gateway)
        scope = assert_contained(started, gateway)
        kept = case.json("reconcile", "--owner", str(gateway.pid))["actions"]
        assert {action["action"] for action in kept} == {"keep"}
        assert [process for process in started if not process.lives()] == []

        kill(gateway, case.witness)
        survivors = assert_only_servers_that_saw_it_ended(started, gateway)
        assert {p.cgroup.rpartition("/")[0] for p in case.witness.look()} == {scope}

        (left,) = case.scopes()
        assert left["cgroup"] == scope
        assert left["state"] == "orphan"
        assert left["owner"]["pid"] == gateway.pid
        assert {member["name"] for member in left["members"]} == NAMES
        assert len(left["members"]) == 9
        assert states(left) == {
            name: "orphan" if name in DEAF | HELPED else "exited" for name in NAMES
        }
        assert left["processes"] >= len(survivors)

        outcome = drive.scopekeeper("reconcile", "--owner", str(gateway.pid), env=case.environment)
        assert outcome.returncode == 0, outcome.stdout + outcome.stderr
        assert_nothing_is_left(case, scope)


@pytest.mark.systemd
@needs_systemd
def test_the_scope_ends_with_a_killed_gateway_that_is_a_unit(case: Case) -> None:
    unit = f"gateway-{uuid.uuid4().hex[:8]}.service"
    user = ("--user",) if os.getuid() else ()
    path = f"--setenv=PATH={case.environment['PATH']}"
    within = ("systemd-run", *user, "--quiet", "--pipe", "--wait", "--collect",
              "--service-type=exec", f"--unit={unit}", path)  # fmt: skip
    with case.start(within=within) as gateway:
        started = settled(case.witness, gateway)
        scope = assert_contained(started, gateway)
        assert cgroup_of(gateway.pid).endswith(f"/{unit}")
        (listed,) = case.scopes()
        assert (listed["state"], listed["owner"]["unit"]) == ("running", unit)

        kill(gateway, case.witness)
        assert wait_for_end(started, PATIENCE_S) == []
        eventually(lambda: case.scopes() == [])  # systemd removes it after its processes
        assert_nothing_is_left(case, scope)


def test_without_scopekeeper_helpers_outlive_the_gateway(case: Case) -> None:
    """What all of this is against; so the servers of these tests do leak."""
    with case.start("--bare") as gateway:
        started = settled(case.witness, gateway)
        assert {p.cgroup for p in started} == {cgroup_of(gateway.pid)}
        kill(gateway, case.witness)
        assert_only_servers_that_saw_it_ended(started, gateway)


def settled(witness: Witness, gateway: drive.Gateway) -> list[Process]:
    """Return what the gateway started, once two looks saw the same: git starts short helpers."""
    before: set[int] = set()
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        # systemd-run carries the mark as well when it is what starts the gateway
        launchers = {gateway.pid, gateway.process.pid}
        found = [process for process in witness.look() if process.pid not in launchers]
        if found and {process.pid for process in found} == before:
            return found
        before = {process.pid for process in found}
        time.sleep(0.5)
    raise AssertionError("processes come and go all the time")


def assert_contained(started: list[Process], gateway: drive.Gateway) -> str:
    """Assert that all of it is in one scope, a leaf for each server; return the scope's path."""
    (scope,) = {process.cgroup.rpartition("/")[0] for process in started}
    unit = scope.rpartition("/")[2]
    assert unit.startswith("scopekeeper-")
    assert unit.endswith(".scope")
    assert not cgroup_of(gateway.pid).startswith(scope)
    inside = inhabitants(scope)
    assert sorted(pid for pids in inside.values() for pid in pids) == [p.pid for p in started]
    assert inside[scope] == []

    leaders = [process for process in started if process.pid in gateway.children]
    assert len(leaders) == len(gateway.children) == 9
    assert len({leader.cgroup for leader in leaders}) == 9
    assert {name_of(leader) for leader in leaders} == NAMES
    for process in started:
        assert process.environment["SCOPEKEEPER_SCOPE"] == unit
        assert not BUS_VARIABLES & process.environment.keys()
    detached = [p for p in helpers(started) if p.session == p.pid]
    twice_forked = [p for p in helpers(started) if p.session != p.pid]
    assert {name_of(p) for p in detached} == {name_of(p) for p in twice_forked} == HELPED
    assert not {p.parent for p in twice_forked} & {p.pid for p in started}
    return scope


def assert_only_servers_that_saw_it_ended(
    started: list[Process], gateway: drive.Gateway
) -> list[Process]:
    """Assert what survived the gateway, as soon as what did not survive it has ended."""
    deaf = [p for p in started if p.pid in gateway.children and is_deaf(p, started)]
    others = [p for p in started if p.pid in gateway.children and p not in deaf]
    assert (len(deaf), len(others)) == (3, 6)
    assert wait_for_end(others, PATIENCE_S) == []  # they saw their input end: time has passed
    survivors = [*deaf, *helpers(started)]
    assert [process for process in survivors if not process.lives()] == []
    return survivors


def assert_nothing_is_left(case: Case, scope: str) -> None:
    assert case.witness.look() == []
    assert carriers("SCOPEKEEPER_SCOPE", scope.rpartition("/")[2]) == []
    assert [pid for pids in inhabitants(scope).values() for pid in pids] == []
    assert case.scopes() == []


def kill(gateway: drive.Gateway, witness: Witness) -> None:
    (process,) = [process for process in witness.look() if process.pid == gateway.pid]
    process.kill()
    assert wait_for_end([process], PATIENCE_S) == []


def helpers(started: list[Process]) -> list[Process]:
    return [process for process in started if process.argv[:1] == ("sleep",)]


def is_deaf(leader: Process, started: list[Process]) -> bool:
    """Tell whether a relay keeps the server's input open."""
    return any(p.parent == leader.pid and "--deaf" in p.argv for p in started)


def name_of(process: Process) -> str:
    member = process.environment["SCOPEKEEPER_MEMBER"].replace("\\x2d", "-")
    return member.removeprefix("m-").rpartition(".")[0]


def states(scope: dict) -> dict[str, str]:
    return {member["name"]: member["state"] for member in scope["members"]}
