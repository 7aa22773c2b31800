"""A program that can not load its modules says so in one line, and keeps what it promises."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
from scopekeeper.main import main
sys.argv = ["scopekeeper", *sys.argv[1:]]
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
main()
"""


@pytest.mark.parametrize(
    ("words", "status"),
    [(("ls",), 1), (("stop", "-s", "a"), 1), (("exec", "--", "true"), 125),
     (("run", "--", "true"), 125)],
)  # fmt: skip
def test_without_a_free_descriptor_a_command_says_so_in_one_line(words, status):
    argv = [sys.executable, "-c", SCRIPT, *words]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == status
    (line,) = done.stderr.splitlines()
    assert line.startswith("scopekeeper: ")
    assert "Too many open files" in line
    assert done.stdout == ""


LATER = """
import resource, sys
from scopekeeper.launch import run
from scopekeeper.main import main
def contain(*_, **__):
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    raise OSError(24, "Too many open files", "cgroup.procs")
run.contain = contain
sys.argv = ["scopekeeper", *sys.argv[1:]]
main()
"""


def test_a_launch_that_runs_out_of_descriptors_takes_its_paths_back(tmp_path):
    owned = [tmp_path / name for name in ("one", "two")]
    for each in owned:
        each.mkdir()
    words = [word for each in owned for word in ("--own", str(each))]
    state = {**os.environ, "SCOPEKEEPER_STATE": str(tmp_path / "state")}
    argv = [sys.executable, "-c", LATER, "run", "-s", "s", *words, "--", "true"]
    done = subprocess.run(argv, capture_output=True, text=True, env=state)
    assert done.returncode == 125
    assert len(done.stderr.splitlines()) == 1
    assert "Too many open files" in done.stderr
    assert [each.name for each in (tmp_path / "state" / "owned").glob("*.claim")] == []
