"""What runs live through: the end of their gateway, and what then becomes of them."""

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.machine import (
    PROGRAM,
    Scopekeeper,
    eventually,
    is_alive,
    processes,
    record_of,
    scope_directory,
    signal_set,
    text_of,
)

from .installed import UNIT, Installed
from .manager import Units, main_pid, show, systemctl
from .test_exec import pid_of, wait

pytestmark = pytest.mark.systemd

DEAF = """
import os, signal, sys
for number in (signal.SIGHUP, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
print("deaf", flush=True)
if os.fork() == 0:
    os.setsid()
while True:
    signal.pause()
"""
"""Ignores what ends a terminal's processes, and so does a helper that has left its session."""
PASSED = ("SCOPEKEEPER_CONFIG", "SCOPEKEEPER_STATE")
KEPT = "[lanes.default]\nsession_grace = '{0}'\n"


@pytest.fixture
def rules(installed: Installed, tmp_path: Path) -> Path:
    """Give the file of the keeper's rules."""
    assert installed
    path = tmp_path / "rules/config.toml"
    path.parent.mkdir()
    return path


class Gateway:
    """A service that is started again whenever it dies.

    Its first life starts two runs, the next adopts one of them when it is told to.
    """

    def __init__(self, units: Units, session: str, folder: Path) -> None:
        self.name = f"gateway-{session[-8:]}.service"
        self._folder = folder
        said = (f"-E{name}={os.environ[name]}" for name in PASSED)
        start = f"{PROGRAM} exec -d --grace 200ms -s {session}"
        script = f"""
            if mkdir {folder}/first; then
                {start} -l cron:tidy -- {sys.executable} -c "$0" > {folder}/run
                {start}:other -- {sys.executable} -c "$0" > {folder}/other
                echo 1 > {folder}/life
            else
                echo 2 > {folder}/life
                until test -e {folder}/adopt; do sleep 0.05; done
                {PROGRAM} adopt -s {session}
                echo 3 > {folder}/life
            fi
            exec sleep infinity
        """
        units.run(
            self.name, "-pRestart=always", "-pRestartSec=50ms", *said,
            command=("sh", "-c", script, DEAF),
        )  # fmt: skip

    def runs(self) -> tuple[str, str]:
        """Wait until it has started its runs; return their ids."""
        self._until("1")
        return text_of(self._folder / "run").strip(), text_of(self._folder / "other").strip()

    def kill(self) -> None:
        """Kill it, and wait for its next life."""
        os.kill(main_pid(self.name), signal.SIGKILL)
        self._until("2")

    def adopt(self) -> str:
        """Have it adopt the first run; return the epoch of this life."""
        (self._folder / "adopt").touch()
        self._until("3")
        return show(self.name, "InvocationID")

    def _until(self, life: str) -> None:
        eventually(lambda: text_of(self._folder / "life") == f"{life}\n")


def deaf(session: str) -> set[int]:
    """Wait for both processes of a run; prove that they ignore SIGHUP."""
    pid = pid_of(session)
    found = eventually(lambda: len(all_ := processes(scope_directory(session))) == 2 and all_)
    ignored = 1 << (signal.SIGHUP - 1) | 1 << (signal.SIGTERM - 1)
    eventually(lambda: all(signal_set(each, "SigIgn") & ignored == ignored for each in found))
    assert pid in found
    return found


def test_the_next_life_of_a_killed_gateway_adopts_a_run_and_the_other_ends_by_its_lanes_grace(
    installed: Installed, keeper: Scopekeeper, session: str, units: Units, tmp_path: Path,
    rules: Path,
) -> None:  # fmt: skip
    rules.write_text(KEPT.format("1h"))
    gateway = Gateway(units, session, tmp_path)
    run, other = gateway.runs()
    mine, others = deaf(session), deaf(f"{session}:other")
    gateway.kill()
    listed = {str(each["session"]): each for each in keeper.scopes("--state", "kept")}
    assert listed.keys() == {session, f"{session}:other"}
    assert (listed[session]["lane"], listed[session]["run"]) == ("cron:tidy", run)
    epoch = gateway.adopt()
    (adopted,) = records(session)
    assert (adopted["OWNER_UNIT"], adopted["OWNER_EPOCH"]) == (gateway.name, epoch)

    rules.write_text(KEPT.format("200ms"))
    assert systemctl("reload", UNIT).returncode == 0
    ended = wait(keeper, other)
    assert (ended["reason"], ended["signal"]) == ("owner gone", signal.SIGKILL)
    assert "0.2s is over" in str(ended["evidence"])
    assert not any(is_alive(pid) for pid in others)
    assert all(is_alive(pid) for pid in mine), "it belongs to the gateway that runs"
    assert keeper.scopes("-s", session)[0]["state"] == "running"

    before = installed.pid
    assert systemctl("restart", UNIT).returncode == 0
    eventually(lambda: installed.pid not in (0, before))
    assert keeper.call("stop", "-s", session).returncode == 0
    assert not any(is_alive(pid) for pid in mine)
    assert wait(keeper, run)["reason"] == "stopped by request"
    ends = eventually(lambda: installed.ends(f"{session}:other"))
    assert [reason for _, reason in ends] == ["owner gone"]


def test_reconcile_alone_ends_by_the_grace_what_ignores_the_hangup_of_its_lost_terminal(
    installed: Installed, keeper: Scopekeeper, session: str, units: Units, tmp_path: Path,
    rules: Path,
) -> None:  # fmt: skip
    rules.write_text(KEPT.format("1h"))
    gateway = Gateway(units, session, tmp_path)
    runs = gateway.runs()
    mine = deaf(session) | deaf(f"{session}:other")
    systemctl("kill", "--signal=SIGKILL", UNIT)
    systemctl("stop", UNIT)
    systemctl("clean", "--what=fdstore", UNIT)
    eventually(lambda: not installed.pid)
    gateway.kill()

    assert keeper.call("reconcile").returncode == 0
    assert all(is_alive(pid) for pid in mine), "its grace has begun"
    assert all("ORPHANED" in record for record in records(session))
    rules.write_text(KEPT.format("1ms"))
    done = keeper.call("reconcile")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not any(is_alive(pid) for pid in mine)
    for each in (session, f"{session}:other"):
        assert [reason for _, reason in installed.ends(each)] == ["owner gone"]
    for run in runs:  # the next keeper, which has seen nothing of it, tells the same
        assert wait(keeper, run)["reason"] == "owner gone"


def records(session: str) -> list[dict[str, str]]:
    """Return the records of a session's members."""
    return [record_of(str(leaf)) for leaf in Path(scope_directory(session)).glob("m-*")]
