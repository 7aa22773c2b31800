"""What ``policy show`` prints of a lane that is known, and of one that nothing mentions."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def show(tmp_path):
    """Call it with rules for one lane, and for one kind of another."""
    (tmp_path / "config.toml").write_text(
        '[lanes.nightly]\ngrace = "9s"\n[lanes.weekly.mcp]\norphans = "report"\n'
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SCOPEKEEPER_CONFIG": str(tmp_path)}

    def call(*words):
        return subprocess.run(
            [sys.executable, "-m", "scopekeeper", "policy", "show", *words], env=environment,
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    return call


@pytest.mark.parametrize("lane", ["nightly", "weekly", "nightly:x", "main", "cron", "default", ""])
def test_a_lane_that_a_file_or_a_built_in_rule_names_is_shown_without_a_note(show, lane):
    done = show(*filter(None, [lane]))
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(show(*filter(None, [lane]), "--json").stdout)["mentioned"] is True


def test_a_lane_that_nothing_mentions_is_noted(show):
    done = show("nigthly")
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    assert "no file and no scope mentions the lane 'nigthly'" in done.stderr
    assert done.stdout == show("default").stdout
    assert json.loads(show("nigthly", "--json").stdout)["mentioned"] is False
