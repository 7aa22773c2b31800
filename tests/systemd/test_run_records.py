"""A run whose record or folder is broken while the keeper is away: no other is harmed by it."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.machine import ROOT, Scopekeeper, eventually, is_alive, text_of

from .installed import UNIT, Installed
from .manager import show, state
from .test_exec import begin, pid_of, wait

pytestmark = pytest.mark.systemd


@contextmanager
def keeper_is_away(installed: Installed) -> Iterator[None]:
    """Change what it has kept, between one keeper that was killed and the next."""
    before = installed.pid
    os.kill(before, signal.SIGSTOP)
    eventually(lambda: ") T " in text_of(f"/proc/{before}/stat"))
    yield
    os.kill(before, signal.SIGKILL)
    eventually(lambda: installed.pid not in (0, before) and state(UNIT) == "active")


def echoes(keeper: Scopekeeper, run: str, text: str) -> None:
    assert keeper.call("send", run, text, "--enter").returncode == 0
    eventually(lambda: f"{text}\n{text}" in keeper.call("logs", run).stdout)


def test_one_that_cannot_be_read_is_left_alone_and_goes_on_when_it_can(
    installed: Installed, keeper: Scopekeeper, session: str
) -> None:
    names = ("whole", "broken", "closed")
    whole, broken, closed = runs = [begin(keeper, f"{session}:{n}", "--", "cat") for n in names]
    pids = [pid_of(f"{session}:{name}") for name in names]
    folder = Path(os.environ["SCOPEKEEPER_STATE"], "runs")
    record = folder / broken / "run.json"
    with keeper_is_away(installed):
        text = record.read_bytes()
        record.write_bytes(text[: len(text) // 2])
        (folder / closed).chmod(0o100)
    echoes(keeper, whole, "still here")
    told = journal_of(installed.pid)
    assert f"a run {broken} that is still used" in told
    assert (f"the run {closed} is left as it is: cannot read" in told) is not ROOT  # who may read
    assert all(is_alive(pid) for pid in pids)
    with keeper_is_away(installed):
        record.write_bytes(text)
        (folder / closed).chmod(0o700)
    for run in runs:
        echoes(keeper, run, "back")
        assert keeper.call("send", run, "--eof").returncode == 0
        assert wait(keeper, run)["status"] == 0
    eventually(lambda: int(show(UNIT, "NFileDescriptorStore") or 0) == 0)


def test_what_is_kept_of_one_that_ended_and_of_which_nothing_is_known_is_let_go(
    installed: Installed, keeper: Scopekeeper, session: str
) -> None:
    run = begin(keeper, session, "--", "cat")
    pid = pid_of(session)
    assert int(show(UNIT, "NFileDescriptorStore")) > 0
    with keeper_is_away(installed):
        Path(os.environ["SCOPEKEEPER_STATE"], "runs", run, "run.json").unlink()
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not is_alive(pid))
    eventually(lambda: int(show(UNIT, "NFileDescriptorStore") or 0) == 0)


def journal_of(pid: int) -> str:
    words = ["journalctl", *([] if ROOT else ["--user"]), "--no-pager", "-o", "cat", f"_PID={pid}"]
    return subprocess.run(words, capture_output=True, text=True).stdout
