"""``exec`` while the keeper is stopped: it says so, starts nothing and leaves nothing."""

import json
import os
import signal
from pathlib import Path

import pytest

from tests.machine import ROOT, Scopekeeper, eventually, text_of

from .installed import UNIT, Installed
from .manager import systemctl
from .test_exec import begin, wait

pytestmark = pytest.mark.systemd


def test_a_keeper_that_is_stopped_is_named_and_no_run_is_left(
    installed: Installed, keeper: Scopekeeper, session: str
) -> None:
    first = begin(keeper, session, "-n", "before", "--", "sleep", "infinity")
    runs = Path(os.environ["SCOPEKEEPER_STATE"], "runs")
    stopped = installed.pid
    os.kill(stopped, signal.SIGSTOP)
    eventually(lambda: ") T " in text_of(f"/proc/{stopped}/stat"))
    done = keeper.call("exec", "-d", "-s", session, "--", "sleep", "99")
    mend = f"systemctl{'' if ROOT else ' --user'} restart {UNIT}"
    assert (done.returncode, done.stdout) == (125, "")
    assert f"the keeper (pid {stopped}) is stopped" in done.stderr
    assert done.stderr.endswith(f"{mend}\n")
    assert done.stderr.count("\n") == 1
    os.kill(stopped, signal.SIGCONT)
    second = begin(keeper, session, "-n", "after", "--", "true")  # after what was asked before it
    assert wait(keeper, second)["status"] == 0
    eventually(lambda: {path.name for path in runs.iterdir()} == {first, second})
    (over,) = json.loads(keeper.call("ls", "-a", "-s", session, "--json").stdout)["ended"]
    assert over["run"] == second

    os.kill(stopped, signal.SIGSTOP)
    assert systemctl("restart", UNIT).returncode == 0, "what the message asks for"
    third = begin(keeper, session, "-n", "again", "--", "true")
    assert wait(keeper, third)["status"] == 0
    assert keeper.call("stop", first).returncode == 0
