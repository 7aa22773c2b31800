"""What has our name but not our record is shown, and never joined, ended or changed."""

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.machine import (
    ATTRIBUTE,
    FOREVER,
    Scopekeeper,
    directory_of,
    eventually,
    impatient_run,
    is_alive,
    leaves,
    processes,
    record_of,
    scope_directories,
)

from .manager import SLICE, state, systemd_run_argv

pytestmark = pytest.mark.systemd

RECORDS = {
    "no record": None,
    "empty": b"",
    "nonsense": b"\xff\x00 hello\n",
    "half": b"V=1\nSESSION=x\nLANE=ma",
    "newer": b"V=2\nSESSION=x\nLANE=main\nNEW=field\n",
    "no session": b"V=1\nLANE=main\n",
}
STATES = {"no record": "foreign", "newer": "foreign"}
"""How each is shown; damaged if it is not here."""


@pytest.fixture(params=RECORDS, ids=str)
def foreign(
    request: pytest.FixtureRequest, keeper: Scopekeeper, session: str
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Make a scope of our name by hand, with a record or without."""
    unit = f"scopekeeper-{session}-main.scope"
    argv = systemd_run_argv(
        "--scope", f"--unit={unit}", "--slice=scopekeeper.slice", "--", *FOREVER
    )
    process = keeper.popen(argv)
    directory = f"{SLICE}/{unit}"
    eventually(lambda: processes(directory) == {process.pid})
    record = RECORDS[request.param]
    if record is not None:
        os.setxattr(directory, ATTRIBUTE, record)
    yield process, directory
    assert is_alive(process.pid), "it was ended"
    assert directory_of(process.pid) == directory, "it was moved"
    assert leaves(directory) == [], "something was put into it"
    assert state(unit) == "active"
    raw = os.getxattr(directory, ATTRIBUTE) if ATTRIBUTE in os.listxattr(directory) else None
    assert raw == record, "its record was changed"


def test_it_is_not_joined(
    keeper: Scopekeeper, session: str, foreign: tuple[subprocess.Popen[bytes], str]
) -> None:
    launch = keeper.run if ATTRIBUTE in os.listxattr(foreign[1]) else impatient_run
    done = launch("-s", session, "--", "sh", "-c", "echo ran")
    assert (done.returncode, done.stdout) == (125, "")
    assert len(done.stderr.splitlines()) == 1
    assert "left alone" in done.stderr


def test_it_is_not_stopped(
    keeper: Scopekeeper, session: str, foreign: tuple[subprocess.Popen[bytes], str]
) -> None:
    done = keeper.call("stop", "-s", session, "--grace", "0")
    assert done.returncode == 1
    assert "skipped" in done.stdout
    assert keeper.call("stop", os.path.basename(foreign[1])).returncode == 1


def test_it_is_reported_by_reconcile_and_shown_by_ls(
    keeper: Scopekeeper,
    session: str,
    foreign: tuple[subprocess.Popen[bytes], str],
    request: pytest.FixtureRequest,
) -> None:
    expected = STATES.get(request.node.callspec.params["foreign"], "damaged")
    done = keeper.call("reconcile")
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if session in line]
    assert expected in line
    assert "reported" in line
    (shown,) = [each for each in keeper.scopes() if each["session"] == session]
    assert shown["state"] == expected


def test_another_run_is_not_disturbed_by_it(
    keeper: Scopekeeper, session: str, foreign: tuple[subprocess.Popen[bytes], str]
) -> None:
    other = keeper.member("-s", session, "--run", "2", "--", *FOREVER)
    assert keeper.call("stop", "-s", session, "--run", "2").returncode == 0
    assert not is_alive(other.pid)


def test_a_member_with_a_damaged_record_is_not_ended_by_reconcile(
    keeper: Scopekeeper, session: str
) -> None:
    owner = keeper.popen(["sleep", "infinity"])
    process = keeper.member("-s", session, "--owner", str(owner.pid), "--", *FOREVER)
    os.setxattr(directory_of(process.pid), ATTRIBUTE, b"V=1\nNAME=it\n")
    owner.kill()
    owner.wait()
    done = keeper.call("reconcile")
    assert done.returncode == 0, done.stderr
    assert "damaged" in done.stdout
    assert is_alive(process.pid)


def test_a_stranger_in_our_scope_is_not_ended_by_reconcile(
    keeper: Scopekeeper, session: str
) -> None:
    owner = keeper.popen(["sleep", "infinity"])
    process = keeper.member("-s", session, "--owner", str(owner.pid), "--", *FOREVER)
    scope = os.path.dirname(directory_of(process.pid))
    os.mkdir(f"{scope}/other")
    stranger = keeper.popen(["sleep", "infinity"])
    with open(f"{scope}/other/cgroup.procs", "w") as file:
        file.write(str(stranger.pid))
    owner.kill()
    owner.wait()
    assert keeper.call("reconcile").returncode == 0
    assert not is_alive(process.pid)
    assert is_alive(stranger.pid)


def test_a_scope_outside_of_our_slice_blocks_its_name_only(
    keeper: Scopekeeper, session: str
) -> None:
    unit = f"scopekeeper-{session}-main.scope"
    stranger = keeper.popen(systemd_run_argv("--scope", f"--unit={unit}", "--", *FOREVER))
    eventually(lambda: directory_of(stranger.pid).endswith(unit))
    done = keeper.run("-s", session, "--", "true")
    assert done.returncode == 125
    assert len(done.stderr.splitlines()) == 1
    assert is_alive(stranger.pid)
    assert leaves(directory_of(stranger.pid)) == []


def ghost(keeper: Scopekeeper, session: str, owner: int) -> tuple[subprocess.Popen[bytes], str]:
    """Make what is left where systemd has forgotten a scope in which something lives."""
    model = keeper.member("-s", session, "--owner", str(owner), "--", *FOREVER)
    scope = os.path.dirname(directory_of(model.pid))
    left = scope.replace("-main.scope", "-ghost.scope")
    leaf = f"{left}/{os.path.basename(directory_of(model.pid))}"
    os.makedirs(leaf)
    process = keeper.popen(["sleep", "infinity"])
    with open(f"{leaf}/cgroup.procs", "w") as file:
        file.write(str(process.pid))
    for source, target in ((scope, left), (directory_of(model.pid), leaf)):
        raw = os.getxattr(source, ATTRIBUTE).replace(b"LANE=main", b"LANE=ghost")
        raw = raw.replace(f"PID={model.pid}\n".encode(), f"PID={process.pid}\n".encode(), 1)
        os.setxattr(target, ATTRIBUTE, raw)
    model.kill()
    model.wait()
    assert "LANE" in record_of(left)
    return process, left


def test_a_ghost_is_shown(keeper: Scopekeeper, session: str) -> None:
    process, left = ghost(keeper, session, os.getpid())
    shown = {each["unit"]: each["state"] for each in keeper.scopes("--compare")}
    assert shown[os.path.basename(left)] == "ghost"
    assert "ghost" in keeper.call("reconcile", "--dry-run").stdout
    assert is_alive(process.pid)


def test_a_ghost_whose_owner_is_gone_is_ended_and_removed(
    keeper: Scopekeeper, session: str
) -> None:
    owner = keeper.popen(["sleep", "infinity"])
    process, left = ghost(keeper, session, owner.pid)
    owner.kill()
    owner.wait()
    assert keeper.call("reconcile").returncode == 0
    assert not is_alive(process.pid)
    eventually(lambda: not os.path.isdir(left) and not scope_directories())
