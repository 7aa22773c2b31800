"""A reboot between two halves of a test: what ran is gone and told, what is enabled runs again.

It asks whoever runs it for the reboot, by exiting as the lab's jobs do: see "What is in a machine"
in tests/lab/README.md. Unlike test_reboot, all is where a user has it: the state, the unit of a
gateway, whatever keeper is installed.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    PROGRAM,
    ROOT,
    Scopekeeper,
    cgroup_of,
    eventually,
    record_of,
    scope_directories,
    scope_directory,
    text_of,
)

from .manager import SLICE, main_pid, state, systemctl
from .test_exec import begin, wait
from .test_keeper import living
from .test_power_cut import boot
from .test_reboot import REBOOT

pytestmark = pytest.mark.reload

ROOM = Path(f"/var/tmp/scopekeeper-reload-{os.getuid()}")
"""Not below /tmp, which may be in memory."""
HOME = Path.home()
STATE = Path("/var/lib/scopekeeper") if ROOT else HOME / ".local/state/scopekeeper"
UNITS = Path("/etc/systemd/system") if ROOT else HOME / ".config/systemd/user"
GATEWAY = "scopekeeper-reload-test.service"
SESSION = f"reload-{os.getuid()}"
UNIT = f"""
[Service]
ExecStart={PROGRAM} run -s {SESSION}-gateway -n gateway -- sleep infinity
[Install]
WantedBy={"multi-user" if ROOT else "default"}.target
"""


@pytest.fixture
def program(expendable: None) -> Iterator[Scopekeeper]:
    """Give the program; afterwards what this test began is gone, and nobody else's."""
    made = Scopekeeper()
    yield made
    systemctl("disable", "--now", GATEWAY)
    (UNITS / GATEWAY).unlink(missing_ok=True)
    systemctl("daemon-reload")
    for session in (SESSION, f"{SESSION}-gateway"):
        made.call("stop", "-s", session)
    systemctl("stop", "scopekeeper.service")
    made.close()
    shutil.rmtree(ROOM)


def test_what_ran_is_gone_and_told_and_what_is_enabled_runs_again(program: Scopekeeper) -> None:
    if not ROOM.exists():
        ROOM.mkdir()
        start(program)
        os._exit(REBOOT)  # what a test leaves behind is not cleaned up
    look_back(program)


def start(keeper: Scopekeeper) -> None:
    """Start a terminal and a server that own what they read, and enable a gateway."""
    UNITS.mkdir(parents=True, exist_ok=True)
    (UNITS / GATEWAY).write_text(UNIT)
    assert systemctl("enable", "--now", GATEWAY).returncode == 0
    owned = ROOM / "owned"
    owned.mkdir()
    (owned / "mcp.json").write_text("{}")
    run = begin(keeper, SESSION, "-n", "terminal", "--", "sh", "-c", "echo up; exec sleep 1e6")
    server = ("--lifetime", "session", "--own", str(owned))
    keeper.member("-s", SESSION, "-n", "server", *server, "--", *FOREVER)
    eventually(lambda: keeper.call("logs", run).stdout == "up\n")
    eventually(lambda: {"terminal", "server", "gateway"} <= living(STATE / "history.db"))
    (ROOM / "run").write_text(run)
    (ROOM / "boot").write_text(boot())
    os.sync()


def look_back(keeper: Scopekeeper) -> None:
    """See what has become of it in the next boot."""
    assert text_of(ROOM / "boot") not in ("", boot())
    eventually(lambda: state(GATEWAY) == "active")
    scope = eventually(lambda: scope_directory(f"{SESSION}-gateway", SLICE))
    eventually(lambda: text_of(f"/proc/{main_pid(GATEWAY)}/comm") == "sleep\n")
    assert os.path.basename(scope) in cgroup_of(main_pid(GATEWAY))
    assert SESSION not in {record_of(each).get("SESSION") for each in scope_directories()}
    run = text_of(ROOM / "run")
    assert wait(keeper, run)["reason"] == "reboot"  # where need be it starts the keeper
    assert keeper.call("logs", run).stdout == "up\n"
    words = "ended when the machine rebooted"
    eventually(lambda: keeper.call("why", SESSION).stdout.count(words) == 2)
    assert keeper.call("reconcile").returncode == 0
    eventually(lambda: not (ROOM / "owned").exists())
    enabled = systemctl("list-unit-files", "--state=enabled", "--no-legend", "scopekeeper*").stdout
    for unit in (line.split()[0] for line in enabled.splitlines()):
        eventually(lambda unit=unit: state(unit) == "active")
