"""What the arrangement is made of, where no OpenClaw is needed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.host import LabError

from . import packages, provider, scenario
from .packages import NODE, Package, UnreachableError, install

NOWHERE = {"npm_config_registry": "http://127.0.0.1:1", "npm_config_fetch_retries": "0"}
needs_npm = pytest.mark.skipif(not shutil.which("npm"), reason="npm is not installed")


def complete(root: Path, package: Package) -> Path:
    """Make a folder as an installation leaves it."""
    proof = root / package.folder / package.proof
    proof.parent.mkdir(parents=True)
    proof.touch()
    (root / package.folder / "complete").write_text(package.stamp)
    return proof


@needs_npm
def test_a_registry_that_does_not_answer_is_told_apart_and_leaves_no_stamp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**NOWHERE, "npm_config_cache": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UnreachableError, match="cannot be reached"):
        install(tmp_path, NODE, lambda note: None)
    assert not (tmp_path / "node/complete").exists()


def test_what_is_complete_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # there is no npm to be called
    complete(tmp_path, NODE)
    install(tmp_path, NODE, pytest.fail)


@pytest.mark.parametrize("lost", ["complete", NODE.proof])
def test_what_lost_a_part_is_installed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    complete(tmp_path, NODE)
    (tmp_path / "node" / lost).unlink()
    with pytest.raises(UnreachableError, match="no npm"):
        install(tmp_path, NODE, lambda note: None)


def test_versions_can_be_asked_for_in_several_ways() -> None:
    assert list(packages.wanted("both")) == list(packages.VERSIONS)
    assert list(packages.wanted("2026.9.6, 2026.4.15")) == ["2026.9.6", "2026.4.15"]
    assert list(packages.wanted("")) == []


def test_what_cannot_be_had_is_a_skip_with_its_reason_and_passes_nothing(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").touch()
    checkout = Path(__file__).parents[2]
    # no npm in PATH is no registry either
    environment = {"SCOPEKEEPER_LAB": str(tmp_path), "PATH": "", "PYTHONPATH": str(checkout)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider",
         "-p", "tests.lab.plugin", "-p", "tests.e2e.plugin", "--openclaw", "2026.9.6"],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NOT RUN: OpenClaw 2026.9.6: there is no npm here" in done.stderr
    assert "cannot be had: there is no npm here" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert "1 skipped" in last
    assert "passed" not in last


def said(*messages: dict[str, object]) -> str:
    """Return what the provider answers to these messages."""
    message, _, _ = provider.answer({"messages": list(messages), "tools": TOOLS})
    calls = message.get("tool_calls")
    return json.dumps(calls[0]["function"]) if calls else str(message["content"])


TOOLS = [{"function": {"name": "exec"}}]
SCRIPT = {"role": "user", "content": '[Sat] a turn\ncall: exec {"command": "x"}\nsay: done'}
CALLED = {"role": "assistant", "content": None, "tool_calls": [{}]}
RESULT = {"role": "tool", "content": "out"}


def test_the_model_does_what_the_message_says_line_by_line() -> None:
    assert '"exec"' in said(SCRIPT)
    assert said(SCRIPT, CALLED, RESULT) == "done"
    assert said(SCRIPT, CALLED, RESULT, {"role": "assistant", "content": "done"}) == "OK"


def test_the_model_reaches_hidden_tools_by_the_one_that_calls_them() -> None:
    script = {"role": "user", "content": "call: stub__ping {}"}
    tools = [{"function": {"name": "tool_call"}}]
    message, _, _ = provider.answer({"messages": [script], "tools": tools})
    function = message["tool_calls"][0]["function"]
    assert function["name"] == "tool_call"
    assert json.loads(function["arguments"]) == {"id": "stub__ping", "args": {}}


def test_any_version_can_be_asked_for_but_no_range_and_no_tag(tmp_path: Path) -> None:
    for name in ("2026.5.2", "2026.4.9", "2026.9.6-1", "node", "mcp"):
        script = tmp_path / name / "node_modules/openclaw/openclaw.mjs"
        script.parent.mkdir(parents=True)
        script.touch()
    found = ["2026.4.9", "2026.4.15", "2026.5.2", "2026.9.6", "2026.9.6-1"]
    assert packages.installed(tmp_path) == found
    for word in ("latest", "^2026.9.6", "2026.9", "../2026.9.6", "2026.9.6/x"):
        with pytest.raises(LabError, match="is no version of OpenClaw"):
            packages.have([word], pytest.fail)


def test_the_tests_of_one_version_are_not_those_of_another() -> None:
    assert packages.is_of("2026.4.1") not in packages.is_of("2026.4.15")


def test_a_version_that_is_not_known_is_taken_for_the_one_before_it() -> None:
    older, newer = (scenario.LEAKS[each] for each in packages.VERSIONS)
    leaks = [scenario.leaks_of(each) for each in ("2026.3.1", "2026.5.2", "2026.10.1")]
    assert leaks == [older, older, newer]
