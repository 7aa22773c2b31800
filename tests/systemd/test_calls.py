"""Calls to a manager: over its bus or its own socket, and only to the unit that is meant."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import scopekeeper
from scopekeeper.systemd import calls
from scopekeeper.systemd.manager import Manager, object_of
from tests.machine import FOREVER, MOUNT, ROOT, Scopekeeper, cgroup_of, eventually

from .manager import Units, show, state, systemctl, uid_of
from .test_bus import over

pytestmark = pytest.mark.systemd

KIND = "system" if ROOT else "user"
PACKAGE = str(Path(scopekeeper.__file__).parents[1])
UNIT = "scopekeeper-test-calls.service"


def asked(kind: str, *, plain: bool = False) -> list[str]:
    """Return a program that prints the version; plain: with nothing in its path but the package."""
    program = (
        f"import sys; sys.path.insert(0, {PACKAGE!r}); from scopekeeper.systemd import calls; "
        f"print(calls.version({kind!r}))"
    )
    return [sys.executable, *(["-IS"] if plain else []), "-c", program]


def answer(argv: list[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_interpreter_without_packages_finds_them_for_a_call() -> None:
    assert answer(asked(KIND, plain=True)) == calls.version(KIND)


@pytest.mark.root
def test_without_a_bus_daemon_the_manager_is_asked_itself(tmp_path: Path) -> None:
    assert answer(over(tmp_path, asked("system"))) == calls.version("system")


@pytest.mark.root
def test_without_a_bus_of_hers_a_users_manager_is_asked_itself() -> None:
    uid = uid_of("lab")
    if uid < 0:
        pytest.skip("there is no user lab")
    hidden = f'mount --bind /dev/null /run/user/{uid}/bus && exec "$@"'
    as_lab = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--", "env", "-i"]
    argv = ["unshare", "--mount", "sh", "-c", hidden, "sh", *as_lab, *asked("user")]
    assert answer(argv) == calls.version("system")


def test_a_scope_is_let_go_only_by_its_invocation_and_its_cgroup(
    keeper: Scopekeeper, session: str
) -> None:
    member = keeper.member("-s", session, "--", *FOREVER)
    scope = os.path.dirname(cgroup_of(member.pid))
    unit, directory = os.path.basename(scope), MOUNT + scope
    life = show(unit, "InvocationID")
    assert not calls.let_go(KIND, life, directory + "x")
    assert not calls.let_go(KIND, "0" * 32, directory)
    assert not calls.let_go(KIND, "", directory)
    assert state(unit) == "active"
    assert member.poll() is None
    assert calls.let_go(KIND, life, directory)
    assert member.wait(60) == -15
    eventually(lambda: state(unit) == "inactive")
    assert not calls.let_go(KIND, life, directory)


def test_a_transient_service_has_its_properties(units: Units) -> None:
    units.adopt(UNIT)
    command = (b"/bin/sleep", [b"sleep", b"infinity"], False)
    calls.start_transient(KIND, UNIT, {
        "Description": ("s", "a test"),
        "ExecStart": ("a(sasb)", [command]),
        "Environment": ("as", ["ONE=1", "TWO=two words"]),
        "FileDescriptorStoreMax": ("u", 7),
        "WatchdogUSec": ("t", 60_000_000),
        "CollectMode": ("s", "inactive-or-failed"),
    })  # fmt: skip
    eventually(lambda: not calls.has_ended(KIND, UNIT))
    assert calls.unit_property(KIND, UNIT, "Description") == "a test"
    assert calls.service_property(KIND, UNIT, "FileDescriptorStoreMax") == "7"
    with Manager(KIND, os.getuid()) as manager:
        assert manager.service_setting(UNIT, "KillMode") == show(UNIT, "KillMode")
        assert manager.call("GetUnit", "s", (UNIT,)) == [object_of(UNIT)]
    assert show(UNIT, "Environment") == 'ONE=1 "TWO=two words"'
    with pytest.raises(calls.ManagerError, match="already"):
        calls.start_transient(KIND, UNIT, {"ExecStart": ("a(sasb)", [command])})


def test_unit_files_and_loaded_units_are_those_of_systemctl(units: Units) -> None:
    template = UNIT.replace(".", "@.")
    units.write(template, "[Service]\nExecStart=/bin/sleep infinity\n")
    units.adopt(instance := UNIT.replace(".", "@one."))
    said = systemctl("is-enabled", template).stdout.strip()
    assert calls.unit_files(KIND, template) == {template: said}
    assert calls.unit_files(KIND, UNIT) == {}
    assert calls.listed_units(KIND, instance) == {}
    assert systemctl("start", instance).returncode == 0
    assert calls.listed_units(KIND, UNIT.replace(".", "@*.")) == {instance: "active"}
    folders = systemctl("show", "--property=UnitPath", "--value").stdout.split()
    assert calls.unit_folders(KIND) == folders
