"""systemd-oomd ends the member that causes the pressure, not its gateway, if a rule lets it choose.

It monitors one slice here, with a gateway, two members and little memory for all of them.
"""

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator

import pytest

from tests.machine import Scopekeeper, eventually, is_alive, scope_directories

from .guard import Keeper
from .manager import SLICE, Units, main_pid, systemctl

pytestmark = [pytest.mark.oomd, pytest.mark.timeout(600)]

Start = Callable[[str], subprocess.Popen[bytes]]
PRESSED = """[Slice]
MemoryHigh=96M
ManagedOOMMemoryPressure=kill
ManagedOOMMemoryPressureLimit=5%
ManagedOOMMemoryPressureDurationSec=2s
"""
THRASH = """
import mmap, sys, tempfile
with tempfile.TemporaryFile(dir=sys.argv[1]) as file:
    file.truncate(256 << 20)
    memory = mmap.mmap(file.fileno(), 0)
    print("ready", flush=True)
    while True:
        for at in range(0, len(memory), 4096):
            memory[at] = 1
"""
"""More of a file than fits into the memory of its slice: it is written and dropped all the time."""
HOLD = "import time; held = b'x' * (24 << 20); print('ready', flush=True); time.sleep(1e6)"
SECONDS = 300
"""For systemd-oomd to act, in an emulated machine."""


@pytest.fixture(autouse=True)
def monitored(units: Units) -> None:
    """Have systemd-oomd monitor our slice, which is not there yet."""
    systemctl("stop", "scopekeeper.slice")
    units.write("scopekeeper.slice.d/pressed.conf", PRESSED)


@pytest.fixture
def disk() -> Iterator[str]:
    """Give a folder on a disk: what is in memory alone cannot be dropped."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        yield folder


@pytest.fixture
def gateway(units: Units, session: str) -> Callable[..., int]:
    """Give a function that starts a gateway in the slice, and returns its pid."""

    def start(*options: str) -> int:
        unit = f"gateway-{session.rpartition(':')[2]}.service"
        slice_ = ("-p", "Slice=scopekeeper.slice")
        units.run(unit, *slice_, *options, command=(sys.executable, "-c", HOLD))
        eventually(is_monitored)
        return main_pid(unit)

    return start


@pytest.fixture
def start(keeper: Scopekeeper, session: str, disk: str) -> Start:
    """Give a function that starts a member by its name; only the eater causes pressure."""

    def start_member(name: str) -> subprocess.Popen[bytes]:
        code = [THRASH, disk] if name == "eater" else [HOLD]
        member = keeper.member(
            "-s", session, "-n", name, "--", sys.executable, "-c", *code, stdout=subprocess.PIPE
        )
        assert member.stdout.readline() == b"ready\n"
        return member

    return start_member


def is_monitored() -> bool:
    done = subprocess.run(["oomctl"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return f"Path: {SLICE.removeprefix('/sys/fs/cgroup')}\n" in done.stdout


def was_killed(member: subprocess.Popen[bytes]) -> bool:
    return member.poll() == -signal.SIGKILL


def ends(keeper: Scopekeeper, session: str) -> dict[str, tuple[str, str]]:
    """Return the reason and the evidence of each end, by the name of the member."""
    printed = keeper.call("history", "-s", session, "--json").stdout
    found = json.loads(printed)["ends"]
    return {end["member"]: (end["reason"], end["evidence"]) for end in found}


def test_the_member_that_causes_it_is_killed_and_not_its_gateway(
    guard: Keeper, keeper: Scopekeeper, session: str, gateway: Callable[..., int], start: Start
) -> None:
    guard.policy('[lanes.default]\nmanaged_oom_preference = "none"\n')
    guard.start()
    pid = gateway()
    calm, eater = start("calm"), start("eater")
    eventually(lambda: was_killed(eater), SECONDS)
    found = eventually(lambda: ends(keeper, session))
    assert found == {"eater": ("oom-killed", "systemd-oomd killed it: user.oomd_ooms")}
    assert (
        "was killed because it ran out of memory" in keeper.call("why", f"{session}/eater").stdout
    )
    assert calm.poll() is None
    assert is_alive(pid)


def test_without_the_rule_it_passes_over_all_members_and_kills_the_gateway(
    guard: Keeper, gateway: Callable[..., int], start: Start
) -> None:
    guard.policy("")
    pid = gateway()
    calm, eater = start("calm"), start("eater")
    eventually(lambda: not is_alive(pid), SECONDS)
    assert [calm.poll(), eater.poll()] == [None, None]


@pytest.mark.parametrize(("of_eater", "of_calm"), [("avoid", "none"), ("omit", "avoid")])
def test_it_prefers_what_the_rules_and_the_gateways_unit_say(
    guard: Keeper, gateway: Callable[..., int], start: Start, of_eater: str, of_calm: str
) -> None:
    guard.policy(
        f'[lanes.default]\nmanaged_oom_preference = "{of_calm}"\n'
        f'[servers.eater]\nmanaged_oom_preference = "{of_eater}"\n'
    )
    pid = gateway("-p", "ManagedOOMPreference=omit")
    calm, eater = start("calm"), start("eater")
    eventually(lambda: was_killed(calm), SECONDS)
    assert eater.poll() is None
    assert is_alive(pid)


def test_without_a_keeper_it_is_known_while_the_cgroup_is_there(
    guard: Keeper, keeper: Scopekeeper, session: str, gateway: Callable[..., int], start: Start
) -> None:
    guard.policy('[lanes.default]\nmanaged_oom_preference = "none"\n')
    gateway("-p", "ManagedOOMPreference=omit")
    start("calm")
    eater = start("eater")
    eventually(lambda: was_killed(eater), SECONDS)
    (reason, evidence) = eventually(lambda: ends(keeper, session))["eater"]
    assert reason == "oom-killed"
    assert evidence.endswith("; systemd-oomd killed it: user.oomd_ooms")


def test_a_keeper_knows_it_of_a_scope_that_systemd_removes_at_once(
    guard: Keeper, keeper: Scopekeeper, session: str, gateway: Callable[..., int], start: Start
) -> None:
    guard.policy('[lanes.default]\nmanaged_oom_preference = "none"\n')
    guard.start()
    gateway("-p", "ManagedOOMPreference=omit")
    eater = start("eater")
    eventually(lambda: was_killed(eater), SECONDS)
    eventually(lambda: not scope_directories())
    found = eventually(lambda: ends(keeper, session))
    assert found == {"eater": ("oom-killed", "systemd-oomd killed it: user.oomd_ooms")}


def test_a_scope_with_a_policy_to_be_killed_whole_is_and_each_end_says_so(
    guard: Keeper, keeper: Scopekeeper, units: Units, session: str, gateway: Callable[..., int],
    start: Start,
) -> None:  # fmt: skip
    units.write("scopekeeper-.scope.d/whole.conf", "[Scope]\nOOMPolicy=kill\n")
    guard.policy("")
    guard.start()
    gateway("-p", "ManagedOOMPreference=omit")
    calm, eater = start("calm"), start("eater")
    eventually(lambda: was_killed(calm) and was_killed(eater), SECONDS)
    found = eventually(lambda: len(found := ends(keeper, session)) == 2 and found)
    whole = ("oom-killed", "systemd-oomd killed it: user.oomd_ooms of its scope")
    assert found == {"calm": whole, "eater": whole}
