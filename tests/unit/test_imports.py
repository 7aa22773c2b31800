"""The hot path imports what it needs, and a module more is a decision, not an accident."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import scopekeeper
from scopekeeper import cgroup
from scopekeeper.launch.place import mount_point

ROOT = Path(scopekeeper.__file__).parents[1]
"""Where the package is that is tested: of the checkout, or installed."""
ALLOWED = {
    "scopekeeper", "scopekeeper.launch", "scopekeeper.launch.signals", "scopekeeper.launch.place",
    "scopekeeper.launch.member", "scopekeeper.launch.request", "scopekeeper.launch.scope",
    "scopekeeper.launch.ledger", "scopekeeper.names", "scopekeeper.records",
    # built into the interpreter, or a small extension module
    "_signal", "errno", "fcntl", "posix", "sys", "time",
}  # fmt: skip

PROGRAM = """
import sys
before = set(sys.modules)
sys.path.insert(0, {root!r})
import posix
from scopekeeper import launch
def reached(*_):
    posix.write(1, "\\n".join(sorted(set(sys.modules) - before)).encode())
    posix._exit(0)
launch._execute = reached
sys.argv[1:] = {arguments!r}
launch.main()
"""


@pytest.fixture
def scratch():
    """A cgroup for the scopes of one test."""
    folder = Path(mount_point(), f"scopekeeper-test-{os.getpid()}")
    folder.mkdir()
    yield folder
    assert cgroup.remove(str(folder))


PLACED = {"scopekeeper.errors", "scopekeeper.launch.placement"}
CREATING = {"scopekeeper.launch.folder", "scopekeeper.launch.limits"}


def modules_of(folder, *arguments):
    """Return what a launch has imported by the time it would execute its command."""
    words = ["run", "--placement", f"cgroup:{folder}", "-s", "imports", *arguments, "--", "true"]
    program = PROGRAM.format(root=str(ROOT), arguments=words)
    ran = subprocess.run([sys.executable, "-IS", "-c", program], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return set(ran.stdout.split())


@pytest.mark.root
def test_making_and_joining_a_scope_import_what_is_written_down(scratch):
    assert modules_of(scratch) <= ALLOWED | PLACED | CREATING
    with subprocess.Popen(
        [sys.executable, "-m", "scopekeeper", "run", "--placement", f"cgroup:{scratch}",
         "-s", "imports", "--", "cat"], stdin=subprocess.PIPE, cwd=ROOT,
    ) as member:  # fmt: skip
        while not any(p.read_text() for p in scratch.glob("*.scope/m-cat.*/cgroup.procs")):
            assert member.poll() is None
        assert modules_of(scratch) <= ALLOWED | PLACED
        member.stdin.close()


SHELL_PROGRAM = """
import sys
before = set(sys.modules)
sys.path.insert(0, {root!r})
import posix
from scopekeeper.launch import shell
def reached(*_):
    posix.write(1, "\\n".join(sorted(set(sys.modules) - before)).encode())
    posix._exit(0)
shell._become = reached
shell.main("/nonexistent", ["sh", "-c", "true"])
"""
OF_SHELL = {"scopekeeper.launch.form", "scopekeeper.launch.shell", "pwd"}


@pytest.mark.root
def test_a_shell_imports_two_modules_more(scratch):
    ran = subprocess.run(
        [sys.executable, "-IS", "-c", SHELL_PROGRAM.format(root=str(ROOT))],
        env={"SCOPEKEEPER_PLACEMENT": f"cgroup:{scratch}", "SCOPEKEEPER_SESSION": "imports"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert set(ran.stdout.split()) <= ALLOWED | PLACED | CREATING | OF_SHELL


@pytest.mark.root
def test_limits_cost_one_module_more(scratch):
    assert "scopekeeper.quantities" in modules_of(scratch, "--ttl", "90s")


@pytest.mark.root
def test_a_required_path_costs_one_module_more(scratch):
    more = modules_of(scratch, "--require", "/") - ALLOWED - PLACED - CREATING
    assert more == {"scopekeeper.launch.paths"}


def test_loading_the_hot_path_imports_nothing_else():
    program = (
        f"import sys; before = set(sys.modules); sys.path.insert(0, {str(ROOT)!r}); "
        "import scopekeeper.launch.scope, scopekeeper.launch.request; "
        "print(*sorted(set(sys.modules) - before), sep='\\n')"
    )
    ran = subprocess.run([sys.executable, "-IS", "-c", program], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert set(ran.stdout.split()) <= ALLOWED


def test_a_wrong_command_loads_even_less():
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); before = set(sys.modules); "
        "import posix; from scopekeeper import launch; "
        "posix._exit = lambda status: print(*sorted(set(sys.modules) - before)) or sys.exit(); "
        "launch.run({}, ['/nonexistent'])"
    )
    ran = subprocess.run([sys.executable, "-IS", "-c", program], capture_output=True, text=True)
    assert set(ran.stdout.split()) <= {
        "posix", "scopekeeper", "scopekeeper.launch", "scopekeeper.launch.signals", "_signal",
    }  # fmt: skip
    assert "nonexistent: not found" in ran.stderr
