"""What cannot be executed ends as env(1) has it: 127 not found, 126 not executable."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.machine import ROOT, Scopekeeper, eventually, scope_directories

pytestmark = pytest.mark.systemd


CASES = {
    "a name that is nowhere": "no-such-program-at-all",
    "a path that is nowhere": "nothing/at/all",
    "a file without the permission": "./plain",
    "a folder": "./folder",
    "a lost interpreter": "./lost",
    "a dangling link": "./dangling",
    "a link to itself": "./loop",
    "below a file": "./plain/x",
    "an empty name": "",
    "a name too long": "x" * 5000,
}
if not ROOT:
    CASES["in a folder that is closed"] = "/root/x"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make one of each kind of file that cannot be executed."""
    (tmp_path / "plain").write_text("echo hello\n")
    (tmp_path / "lost").write_text("#!/no/such/interpreter\n")
    (tmp_path / "lost").chmod(0o755)
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    return tmp_path


@pytest.mark.parametrize("command", CASES.values(), ids=CASES.keys())
def test_the_exit_status_is_that_of_env(
    keeper: Scopekeeper, session: str, folder: Path, command: str
) -> None:
    expected = subprocess.run(["env", command], capture_output=True, cwd=folder).returncode
    done = keeper.run("-s", session, "--", command, cwd=folder)
    assert expected in (126, 127)
    assert (done.returncode, done.stdout) == (expected, "")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    eventually(lambda: not scope_directories())


def test_a_script_without_an_interpreter_line_runs_in_a_shell(
    keeper: Scopekeeper, session: str, tmp_path: Path
) -> None:
    script = tmp_path / "script"
    script.write_text('echo "$0 $1 $#"; exit 5\n')
    script.chmod(0o755)
    expected = subprocess.run(["env", script, "a b", ""], capture_output=True, text=True)
    done = keeper.run("-s", session, "--", str(script), "a b", "")
    assert (done.returncode, done.stdout) == (expected.returncode, expected.stdout)


def test_the_path_of_the_caller_is_searched(
    keeper: Scopekeeper, session: str, tmp_path: Path
) -> None:
    for name, mode in (("one", 0o644), ("two", 0o755)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tool").write_text(f"#!/bin/sh\necho {name}\n")
        (tmp_path / name / "tool").chmod(mode)
    path = f"{tmp_path}/none:{tmp_path}/one:{tmp_path}/two:{os.environ['PATH']}"
    done = keeper.run("-s", session, "--", "tool", env={**os.environ, "PATH": path})
    assert (done.returncode, done.stdout) == (0, "two\n")


def test_without_a_path_the_usual_folders_are_searched(keeper: Scopekeeper, session: str) -> None:
    bare = {name: value for name, value in os.environ.items() if name != "PATH"}
    assert keeper.run("-s", session, "--", "sh", "-c", "exit 4", env=bare).returncode == 4
