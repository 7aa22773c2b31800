"""Commands while the keeper is stopped: they name it, say what mends it, and leave nothing."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.machine import PROGRAM, ROOT, Scopekeeper, eventually, text_of

from .installed import UNIT, Installed
from .manager import systemctl
from .test_exec import begin, wait

pytestmark = pytest.mark.systemd
RUN, SESSION = "RUN", "SESSION"


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


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("attach", RUN), 125),
        (("wait", RUN), 125),
        (("wait", "--json", RUN), 125),
        (("send", RUN, "typed"), 1),
        (("exec", "-s", SESSION, "--", "true"), 125),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, tuple) else "",
)
def test_no_command_on_a_run_waits_for_a_keeper_that_is_stopped(
    installed: Installed, keeper: Scopekeeper, session: str, words: tuple[str, ...], status: int
) -> None:
    run = begin(keeper, session, "-n", "cat", "--", "cat")
    stopped = installed.pid
    os.kill(stopped, signal.SIGSTOP)
    eventually(lambda: ") T " in text_of(f"/proc/{stopped}/stat"))
    called = [{RUN: run, SESSION: session}.get(word, word) for word in words]
    done = keeper.call(*called, timeout=40)
    mend = f"systemctl{'' if ROOT else ' --user'} restart {UNIT}"
    said = f"scopekeeper: the keeper (pid {stopped}) is stopped (SIGSTOP) and does not answer"
    assert done.returncode == status
    assert done.stderr.startswith(said)
    assert done.stderr.endswith(f"{mend}\n")
    assert done.stderr.count("\n") == 1
    assert (done.stdout == "") is ("--json" not in words)
    os.kill(stopped, signal.SIGCONT)
    assert keeper.call("send", run, "--eof").returncode == 0
    assert wait(keeper, run)["status"] == 0
    assert "typed" not in keeper.call("logs", run).stdout, "nothing was half done"


def test_a_wait_goes_on_with_the_keeper_that_systemd_starts_for_one_that_was_stopped(
    installed: Installed, keeper: Scopekeeper, session: str
) -> None:
    run = begin(keeper, session, "-n", "cat", "--", "cat")
    waiting = keeper.popen([PROGRAM, "wait", run], stderr=subprocess.PIPE, text=True)
    attached = keeper.popen(
        [PROGRAM, "attach", run], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    eventually(lambda: all(map(_is_connected, (waiting, attached))))
    stopped = installed.pid
    os.kill(stopped, signal.SIGSTOP)
    assert systemctl("restart", UNIT).returncode == 0
    assert installed.pid != stopped
    assert keeper.call("send", run, "--eof").returncode == 0
    assert waiting.communicate(timeout=60) == (None, "")
    assert waiting.returncode == 0
    attached.communicate(timeout=60)
    assert attached.returncode == 0


def _is_connected(process: "subprocess.Popen[str]") -> bool:
    folder = f"/proc/{process.pid}/fd"
    return any("socket:" in os.path.realpath(f"{folder}/{fd}") for fd in os.listdir(folder))
