"""A program that can not load its modules says so in one line."""

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
