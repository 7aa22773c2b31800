"""What ``history`` and ``why`` print of ends, and of none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scopekeeper.history.store import HistoryStore
from scopekeeper.scope.reason import Reason
from tests.unit.ends import NOW, an_end
from tests.unit.terminals import printed

ROOT = Path(__file__).parents[2]


@pytest.fixture
def environment(tmp_path):
    """A machine on which two members have ended."""
    (tmp_path / "state").mkdir(mode=0o700)
    HistoryStore(tmp_path / "state").write([
        an_end(member, session="agent:main:a-session-of-some-length", name="playwright",
               started=NOW - 9_000_000, reason=Reason.OWNER_GONE, cpu_usec=cpu,
               evidence="a-gateway-of-some-length.service has stopped")
        for member, cpu in (("00000001", 1_000_000), ("00000002", 70_000_000))
    ])  # fmt: skip
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(tmp_path),
            "SCOPEKEEPER_STATE": str(tmp_path / "state")}  # fmt: skip


def call(environment, *words):
    return subprocess.run(
        [sys.executable, "-m", "scopekeeper", *words], env=environment, capture_output=True,
        text=True, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize(
    "words", [["--since", "0s"], ["-s", "other"], ["--reason", "ttl"], ["--where", "cpu>1h"]],
    ids=" ".join,
)  # fmt: skip
def test_where_nothing_matches_that_is_not_a_history_without_ends(environment, words):
    assert call(environment, "history", *words).stdout == "No end matches.\n"
    empty = {**environment, "SCOPEKEEPER_STATE": f"{environment['HOME']}/nothing"}
    assert call(empty, "history").stdout == "No ends are recorded.\n"


@pytest.mark.parametrize("words", [["--sort", "-cpu"], ["--where", "cpu>0s"]], ids=" ".join)
def test_on_a_narrow_terminal_the_column_that_is_asked_about_stays(environment, words):
    def titles(*words):
        argv = [sys.executable, "-m", "scopekeeper", "history", *words]
        lines = printed(argv, env=environment)
        assert max(map(len, lines)) <= 80
        return lines[0].split()

    assert "CPU" not in titles(), "the screen is too narrow for all columns"
    assert "CPU" in titles(*words)


def test_one_end_is_singular(environment):
    done = call(environment, "why", "-n", "playwright", "--limit", "1")
    assert done.stderr == "Only the newest end is shown; --all shows every one.\n"
