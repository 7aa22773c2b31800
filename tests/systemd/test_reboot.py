"""Runs when the machine goes down: told once as ended by that, with what they had written.

One test in three boots, a shutdown between the first two and a power cut after: see "What is in a
machine" in tests/lab/README.md.
"""

import ctypes
import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.machine import Scopekeeper, eventually, text_of

from .installed import Installed
from .test_exec import begin, wait
from .test_keeper import living
from .test_power_cut import RESTART, boot

pytestmark = [
    pytest.mark.systemd, pytest.mark.root, pytest.mark.controllers, pytest.mark.machine,
]  # fmt: skip

ROOM = Path("/var/tmp/scopekeeper-reboot")
"""Not below /tmp, which may be in memory."""
STATE = ROOM / "state"
WRITTEN = "".join(f"{number}\n" for number in range(1, 1001))
REBOOT = 194
"""Exit status of a job after which the lab's machine shuts down and boots."""


@pytest.fixture
def kept(installed: Installed, monkeypatch: pytest.MonkeyPatch, expendable: None) -> Path:
    """Keep the state where the next boot finds it."""
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(STATE))
    installed.write()
    return ROOM


def test_what_ran_when_the_machine_went_down_has_ended_once_by_reboot_with_its_output(
    installed: Installed, keeper: Scopekeeper, kept: Path
) -> None:
    if not kept.exists():
        kept.mkdir()
        start(keeper, "shut-down")
        os._exit(REBOOT)  # what a test leaves behind is not cleaned up
    try:
        if not (kept / "cut").exists():
            look_back(installed, keeper, "shut-down")
            start(keeper, "cut")
            ctypes.CDLL(None).reboot(RESTART)  # as in test_power_cut
            eventually(lambda: False)
        look_back(installed, keeper, "cut")
        go_on(installed, keeper)
    except BaseException:
        shutil.rmtree(kept)
        raise
    shutil.rmtree(kept)


def start(keeper: Scopekeeper, name: str) -> None:
    """Start a run, and have the disk take what there is."""
    folder = ROOM / name
    folder.mkdir()
    run = begin(keeper, name, "-n", name, "--", "sh", "-c", "seq 1000; exec sleep infinity")
    eventually(lambda: keeper.call("logs", run).stdout == WRITTEN)
    eventually(lambda: name in living(STATE / "history.db"))
    (folder / "run").write_text(run)
    (folder / "boot").write_text(boot())
    os.sync()


def look_back(installed: Installed, keeper: Scopekeeper, name: str) -> None:
    """See what is told of a run of the boot before."""
    assert boot() != text_of(ROOM / name / "boot")
    run = text_of(ROOM / name / "run")
    assert wait(keeper, run)["reason"] == "reboot"  # where need be it starts the keeper
    assert keeper.call("logs", run).stdout == WRITTEN
    assert eventually(lambda: installed.ends(name)) == [(name, "reboot")]
    (told, *last) = keeper.call("why", run).stdout.splitlines()
    assert "ended when the machine rebooted" in told
    assert not any("ended" in line for line in last)
    assert last[-1].strip() == "1000"


def go_on(installed: Installed, keeper: Scopekeeper) -> None:
    """See that the keeper of this boot keeps, and that another one tells nothing again."""
    run = begin(keeper, "now", "--", "cat")
    before = installed.pid
    os.kill(before, signal.SIGKILL)
    eventually(lambda: installed.pid not in (0, before))
    assert keeper.call("send", run, "--eof").returncode == 0
    assert wait(keeper, run)["status"] == 0
    for name in ("shut-down", "cut"):
        assert installed.ends(name) == [(name, "reboot")]
