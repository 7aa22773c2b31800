"""Members are killed before their gateway if the machine runs out of memory and a rule says so."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import scopekeeper
from scopekeeper.python_api import posix_spawn
from tests.birth import bear
from tests.machine import (
    FOREVER,
    MOUNT,
    PROGRAM,
    SHELL,
    Scopekeeper,
    cgroup_of,
    directory_of,
    eventually,
    is_alive,
    text_of,
    wait_for_command,
)

from .guard import Keeper
from .manager import Units, main_pid, show

pytestmark = pytest.mark.systemd


RULES = "[lanes.default]\noom_score_adjust = 600\n[servers.first]\noom_score_adjust = 900\n"
EAT = """
import sys, time
data = []
for _ in range(int(sys.argv[1])):
    data.append(b"x" * (1 << 20))
    time.sleep(0.002)
print("eaten", flush=True)
time.sleep(1000)
"""


@pytest.fixture(autouse=True)
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the folder of the rules."""
    monkeypatch.setenv("SCOPEKEEPER_CONFIG", str(tmp_path))
    (tmp_path / "config.toml").write_text(RULES)
    return tmp_path


def score(pid: int) -> int:
    return int(text_of(f"/proc/{pid}/oom_score_adj"))


def test_members_have_the_score_of_their_lane_or_server_and_what_they_start_too(
    keeper: Scopekeeper, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert score(os.getpid()) < 600
    script = "sleep 1000 & echo $!; exec sleep 1000"
    maker = keeper.member("-s", session, "--", "sh", "-c", script, stdout=subprocess.PIPE)
    helper = int(maker.stdout.readline())
    joining = keeper.member("-s", session, "-n", "first", "--", *FOREVER)
    assert [score(pid) for pid in (maker.pid, helper, joining.pid)] == [600, 600, 900]
    monkeypatch.setenv("SCOPEKEEPER_SESSION", session)
    command = keeper.popen([SHELL, "-c", "exec sleep 1000"])
    wait_for_command(command)
    assert score(command.pid) == 600


def test_it_is_never_lowered(keeper: Scopekeeper, session: str) -> None:
    line = f"echo 700 >/proc/self/oom_score_adj; exec {PROGRAM} run -s {session} -- cat"
    member = keeper.popen(["sh", "-c", line], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for_command(member)
    assert score(member.pid) == 700
    member.stdin.close()
    assert (member.wait(), member.stderr.read()) == (0, b"")


@pytest.mark.parametrize("way", ["native", "launcher"])
def test_members_of_a_cohort_have_it_and_their_gateway_has_not(
    keeper: Scopekeeper, session: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert keeper
    if way == "launcher":
        monkeypatch.setattr(posix_spawn, "is_there", lambda: False)
    before = score(os.getpid())
    with scopekeeper.Cohort(session) as cohort:
        members = [cohort.spawn(FOREVER, name=name) for name in ("one", "two", "first")]
        assert [score(member.pid) for member in members] == [600, 600, 900]
        with cohort.place("three") as place:
            child, _ = bear(place.fileno(), FOREVER, place.environment)
        try:
            eventually(lambda: score(child) == 600)
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    assert score(os.getpid()) == before


@pytest.mark.controllers
@pytest.mark.parametrize("way", ["native", "launcher"])
def test_systemd_oomd_can_choose_each_member_and_read_its_preference(
    keeper: Scopekeeper, session: str, rules: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "launcher":
        monkeypatch.setattr(posix_spawn, "is_there", lambda: False)
    text = '[lanes.default]\nmanaged_oom_preference = "none"\n'
    for name in ("avoid", "omit"):
        text += f'[servers.{name}]\nmanaged_oom_preference = "{name}"\n'
    (rules / "config.toml").write_text(text)
    with scopekeeper.Cohort(session) as cohort:
        pids = [cohort.spawn(FOREVER, name=name).pid for name in ("none", "avoid", "omit")]
        made = keeper.member("-s", session, "-n", "omit", "--", *FOREVER, stderr=subprocess.PIPE)
        leaves = [directory_of(pid) for pid in (*pids, made.pid)]
        assert all(os.path.exists(f"{leaf}/memory.current") for leaf in leaves)
        found = [[each for each in os.listxattr(leaf) if "oomd" in each] for leaf in leaves]
        assert found == [[], ["user.oomd_avoid"], ["user.oomd_omit"], ["user.oomd_omit"]]
        made.kill()
        assert made.communicate()[1] == b""


def test_a_preference_without_the_controller_is_a_warning(
    keeper: Scopekeeper, session: str, rules: Path
) -> None:
    (rules / "config.toml").write_text('[lanes.default]\nmanaged_oom_preference = "avoid"\n')
    member = keeper.member("-s", session, "--", *FOREVER, stderr=subprocess.PIPE)
    is_counted = os.path.exists(f"{directory_of(member.pid)}/memory.current")
    member.kill()
    warned = member.communicate()[1].decode()
    assert warned == "" if is_counted else "managed_oom_preference has no effect: " in warned


@pytest.mark.controllers
@pytest.mark.parametrize("ruled", [True, False])
def test_the_kernel_kills_a_small_member_and_not_a_large_gateway(
    units: Units, keeper: Scopekeeper, session: str, rules: Path, ruled: bool
) -> None:
    if not ruled:
        (rules / "config.toml").write_text("")
    program = rules / "eat.py"
    program.write_text(EAT)
    unit = f"oom-{session.rpartition(':')[2]}.service"
    units.run(
        unit, "-p", "MemoryMax=240M", "-p", "MemorySwapMax=0", "-p", "OOMPolicy=continue",
        "-p", "Delegate=yes", command=(sys.executable, str(program), "150"),
    )  # fmt: skip
    gateway = main_pid(unit)
    eventually(lambda: "VmRSS" in text_of(f"/proc/{gateway}/status") and rss(gateway) > 145 << 10)
    place = MOUNT + cgroup_of(gateway)
    member = keeper.member(
        "-s", session, "--placement", f"cgroup:{place}", "--", sys.executable, str(program), "120"
    )
    eventually(lambda: "oom_kill 0" not in text_of(f"{place}/memory.events"))
    if ruled:
        assert member.wait(60) == -signal.SIGKILL
        assert is_alive(gateway)
    else:
        eventually(lambda: not is_alive(gateway))
    assert (show(unit, "MainPID") == str(gateway)) is ruled


@pytest.mark.controllers
@pytest.mark.root
@pytest.mark.parametrize("ruled", [True, False])
def test_on_a_machine_out_of_memory_it_is_the_same_and_the_history_has_it(
    units: Units, guard: Keeper, keeper: Scopekeeper, session: str, rules: Path, ruled: bool
) -> None:
    """The kernel is asked for what it does then: an emulated machine really out of it stalls."""
    guard.policy(RULES if ruled else "")
    guard.start()
    program = rules / "eat.py"
    program.write_text(EAT)
    unit = f"oom-{session.rpartition(':')[2]}.service"
    units.run(unit, command=(sys.executable, str(program), "400"))
    gateway = main_pid(unit)
    eventually(lambda: rss(gateway) > 400 << 10)
    calm = keeper.member("-s", session, "-n", "calm", "--", *FOREVER)
    eater = keeper.member("-s", session, "-n", "eater", "--", sys.executable, str(program), "40")
    eventually(lambda: rss(eater.pid) > 40 << 10)
    Path("/proc/sysrq-trigger").write_text("f")
    if ruled:
        assert eater.wait(60) == -signal.SIGKILL
        (end,) = guard.ends(session)
        assert (end["member"], end["reason"]) == ("eater", "oom-killed")
        assert "memory.events" in str(end["evidence"])
    else:
        eventually(lambda: not is_alive(gateway))
    assert calm.poll() is None
    assert (show(unit, "MainPID") == str(gateway)) is ruled


def rss(pid: int) -> int:
    """Return the resident memory of a process in KiB."""
    return int(text_of(f"/proc/{pid}/status").partition("VmRSS:")[2].split()[0])
