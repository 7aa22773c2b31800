"""The hot path imports what it needs, and a module more is a decision, not an accident."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import scopekeeper
from scopekeeper.kernel import cgroupfs
from scopekeeper.kernel.proc import mount_point
from scopekeeper.launcher import direct

ROOT = Path(scopekeeper.__file__).parents[1]
"""Where the package is that is tested: of the checkout, or installed."""
ALLOWED = {
    "scopekeeper", "scopekeeper.main", "scopekeeper.users",
    "scopekeeper.kernel", "scopekeeper.kernel.proc",
    "scopekeeper.systemd", "scopekeeper.systemd.units",
    "scopekeeper.scope", "scopekeeper.scope.names", "scopekeeper.scope.records",
    "scopekeeper.scope.placement", "scopekeeper.scope.choose_placement", "scopekeeper.scope.owner",
    "scopekeeper.scope.client",
    "scopekeeper.clients", "scopekeeper.clients.table", "scopekeeper.clients.variables",
    "scopekeeper.history", "scopekeeper.history.launch_ledger",
    "scopekeeper.launch", "scopekeeper.launch.arguments", "scopekeeper.launch.join",
    "scopekeeper.launch.member", "scopekeeper.launch.program", "scopekeeper.launch.request",
    "scopekeeper.launch.run", "scopekeeper.launch.signals",
    # built into the interpreter, or a small extension module
    "_signal", "errno", "fcntl", "posix", "sys", "time",
}  # fmt: skip

PROGRAM = """
import sys
before = set(sys.modules)
sys.path.insert(0, {root!r})
import posix
from scopekeeper.history import launch_ledger
launch_ledger.labels = lambda: ""  # a machine where no session has a label
from scopekeeper.launch import run
from scopekeeper.main import main
def reached(*_):
    posix.write(1, "\\n".join(sorted(set(sys.modules) - before)).encode())
    posix._exit(0)
run.execute = reached
sys.argv[1:] = {arguments!r}
main()
"""


@pytest.fixture
def scratch():
    """A cgroup for the scopes of one test."""
    folder = Path(mount_point(), f"scopekeeper-test-{os.getpid()}")
    folder.mkdir()
    yield folder
    assert cgroupfs.remove(str(folder))


PLACED = {"scopekeeper.errors", "scopekeeper.scope.placement_options"}
CREATING = {
    "scopekeeper.launch.create_cgroup", "scopekeeper.launch.limits",
    "scopekeeper.launch.start_keeper",
}  # fmt: skip


def modules_of(folder, *arguments, **variables):
    """Return what a launch has imported by the time it would execute its command."""
    words = ["run", "--placement", f"cgroup:{folder}", "-s", "imports", *arguments, "--", "true"]
    program = PROGRAM.format(root=str(ROOT), arguments=words)
    inherited = {name: value for name, value in os.environ.items() if name != "TMUX"}
    ran = subprocess.run(
        [sys.executable, "-IS", "-c", program], env=inherited | variables,
        capture_output=True, text=True,
    )  # fmt: skip
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
OF_SHELL = {
    "scopekeeper.launch.real_shell", "scopekeeper.launch.shell",
    "scopekeeper.launch.shell_arguments", "pwd",
}  # fmt: skip


@pytest.mark.root
def test_a_shell_imports_three_modules_more(scratch):
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
    assert more == {"scopekeeper.launch.path_options"}


@pytest.mark.root
def test_a_stderr_of_its_own_costs_what_it_needs(scratch, tmp_path):
    def more(how):
        found = modules_of(scratch, f"--stderr={how}", SCOPEKEEPER_STATE=str(tmp_path / "state"))
        return {name for name in found if name.startswith("scopekeeper.")}

    more("inherit")
    plain = more("inherit")
    both = {"scopekeeper.launch.stderr", "scopekeeper.short_names", "scopekeeper.stderr",
            "scopekeeper.stderr.files", "scopekeeper.state",
            "scopekeeper.regular_files"}  # fmt: skip
    assert more("file") - plain == both - plain | {"scopekeeper.stderr.bounds"}
    stream = {"scopekeeper.systemd.journal_stream", "scopekeeper.safe_text",
              "scopekeeper.launch.failure", "scopekeeper.history.failed_launches"}  # fmt: skip
    assert more("journal") - plain <= both | stream
    assert "scopekeeper.launch.stderr" not in plain


@pytest.mark.root
def test_a_terminal_of_tmux_costs_one_module_more(scratch):
    more = modules_of(scratch, TMUX="/tmp/socket,1,0") - ALLOWED - PLACED - CREATING
    assert more == {"scopekeeper.launch.tmux"}


@pytest.mark.root
def test_a_gate_costs_two_modules_more(scratch, tmp_path):
    def with_rules(text):
        (tmp_path / "config.toml").write_text(text)
        modules_of(scratch, SCOPEKEEPER_CONFIG=str(tmp_path))  # compiles them
        return modules_of(scratch, SCOPEKEEPER_CONFIG=str(tmp_path))

    plain = with_rules("[lanes.main]\nreplace = false\n")
    gated = with_rules('[lanes.main]\nmin_available = "1M"\nwhen_short = "wait"\n')
    assert gated - plain == {"scopekeeper.kernel.memory", "scopekeeper.launch.gate"}


def loaded_by(*names):
    """Return what importing these modules imports."""
    program = (
        f"import sys; before = set(sys.modules); sys.path.insert(0, {str(ROOT)!r}); "
        f"import {', '.join(names)}; print(*sorted(set(sys.modules) - before), sep='\\n')"
    )
    ran = subprocess.run([sys.executable, "-IS", "-c", program], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return set(ran.stdout.split())


def test_loading_the_hot_path_imports_nothing_else():
    assert loaded_by("scopekeeper.launch.join", "scopekeeper.launch.request") <= ALLOWED


def test_a_variable_of_a_client_costs_one_module_more():
    assert loaded_by("scopekeeper.clients.identity") - ALLOWED == {"scopekeeper.clients.identity"}


def test_a_label_that_a_scope_takes_over_costs_one_module_more():
    assert loaded_by("scopekeeper.history.session_label") - ALLOWED == {
        "scopekeeper.history.session_label"
    }


def test_what_few_launches_need_is_compiled_into_the_launcher():
    assert direct._LATER == ("scopekeeper.clients.identity", "scopekeeper.history.session_label")


OF_HOOK = {*direct._BELOW_HOOK, *direct._HOOK}


def test_a_hook_loads_only_what_returns_to_the_client():
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); before = set(sys.modules); "
        "import posix; posix.fork = lambda: 1; from scopekeeper.main import main; "
        "posix._exit = lambda status: print(*sorted(set(sys.modules) - before)) or sys.exit(); "
        "sys.argv[1:] = ['hook', 'claude', 'SessionEnd']; main()"
    )
    ran = subprocess.run([sys.executable, "-IS", "-c", program], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert set(ran.stdout.split()) <= OF_HOOK | {"posix", "time"}
    assert set(ran.stdout.split()) >= OF_HOOK


def test_a_wrong_command_loads_even_less():
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); before = set(sys.modules); "
        "import posix; from scopekeeper.launch.run import run; "
        "posix._exit = lambda status: print(*sorted(set(sys.modules) - before)) or sys.exit(); "
        "run({}, ['/nonexistent'])"
    )
    ran = subprocess.run([sys.executable, "-IS", "-c", program], capture_output=True, text=True)
    assert set(ran.stdout.split()) <= {
        "posix", "scopekeeper", "scopekeeper.launch", "scopekeeper.launch.program",
        "scopekeeper.launch.run", "scopekeeper.launch.signals", "_signal",
        # what counts it for metrics
        "scopekeeper.history", "scopekeeper.history.failed_launches",
        "scopekeeper.history.launch_ledger", "scopekeeper.kernel", "scopekeeper.kernel.proc",
        "scopekeeper.scope", "scopekeeper.scope.names", "scopekeeper.scope.records",
    }  # fmt: skip
    assert "nonexistent: not found" in ran.stderr


def test_all_of_the_hot_path_is_compiled_into_the_launcher():
    assert set(direct._JOINING) == {name for name in ALLOWED if name.startswith("scopekeeper")}


def test_all_that_making_a_scope_imports_is_compiled_too():
    loaded = {name for name in loaded_by(*direct._MAKING) if name.startswith("scopekeeper")}
    assert loaded <= {*direct._JOINING, *direct._MAKING}
