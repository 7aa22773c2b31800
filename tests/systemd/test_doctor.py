"""``doctor`` says of every service what holds there: its verdict is what ``run`` then meets."""

import json
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.machine import (
    PROGRAM,
    ROOT,
    Scopekeeper,
    eventually,
    rounds,
    scope_directories,
    trials_of,
)

from .guard import Keeper
from .manager import systemd_run_argv

pytestmark = pytest.mark.systemd

_PLACES = {
    "plain": (),
    "no other processes": ("ProtectProc=invisible",),
    "processes alone in /proc": ("ProcSubset=pid",),
    "a user namespace": ("PrivateUsers=yes",),
    "nothing for the owner of what is made": ("UMask=0777",),
    "no unix sockets": ("RestrictAddressFamilies=AF_INET",),
    "nothing to write": ("ReadOnlyPaths=/",),
    "few descriptors": ("LimitNOFILE=12",),
    "no first process": ("InaccessiblePaths=/proc/1",),
    "no runtime folder": ("ProtectHome=yes",),
    "no cgroups": ("InaccessiblePaths=/sys/fs/cgroup",),
    "no variables": ("UnsetEnvironment=XDG_RUNTIME_DIR DBUS_SESSION_BUS_ADDRESS HOME SHELL",),
}


def called(*words: str, properties: tuple[str, ...], uid: str) -> subprocess.CompletedProcess[str]:
    """Call the program in a service with these properties."""
    options = [f"--property={each}" for each in properties]
    options += [f"--property=User={uid}"] if uid else []
    argv = systemd_run_argv("--pipe", "--wait", f"--setenv=PATH={os.environ['PATH']}", *options)
    return subprocess.run(
        [*argv, "--", PROGRAM, *words], capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize("uid", ["", "1000"] if ROOT else [""])
def test_its_verdict_is_what_a_launch_meets_wherever_it_is_called(
    keeper: Scopekeeper, session: str, uid: str
) -> None:
    def compare(name: str) -> None:
        properties = _PLACES[name]
        words = ("run", "-s", f"{session}:{name}", "--", "true")
        ran = called(*words, properties=properties, uid=uid)
        assert ran.returncode in (0, 125), (name, ran.stderr)
        assert ran.returncode == 0 or len(ran.stderr.splitlines()) == 1, (name, ran.stderr)
        done = called("doctor", "--json", properties=properties, uid=uid)
        assert not done.stderr, name
        found = json.loads(done.stdout)
        assert (done.returncode == 2) is (ran.returncode == 125), (name, found, ran.stderr)
        assert (found["verdict"] == "not usable") is (done.returncode == 2), name
        failed = [check for check in found["checks"] if check["status"] == "fail"]
        assert bool(failed) is (done.returncode == 2), name
        assert all(check["fix"] for check in failed), (name, failed)

    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(compare, _PLACES))) == len(_PLACES)


def test_what_it_has_no_descriptor_for_is_a_finding(keeper: Scopekeeper) -> None:
    done = called("doctor", properties=("LimitNOFILE=6",), uid="")
    assert done.returncode == 2
    assert "Too many open files" in done.stdout
    assert "ulimit -n" in done.stdout
    assert not done.stderr


@pytest.mark.parametrize("watched", [False, True], ids=["without a keeper", "with a keeper"])
def test_its_trial_is_in_no_history(
    keeper: Scopekeeper, guard: Keeper, session: str, watched: bool
) -> None:
    if watched:
        guard.start()
    done = keeper.call("doctor")
    assert "a scope was created, recorded and stopped" in done.stdout
    keeper.call("run", "-s", session, "--", "true")  # comes later, so the trial has been seen too
    eventually(lambda: guard.history(session))
    ends = json.loads(keeper.call("history", "--json").stdout)["ends"]
    assert {end["session"] for end in ends} == {session}


def trial_scopes() -> list[str]:
    """Return the scopes of trials."""
    return [each for each in scope_directories() if "scopekeeper-scopekeeper-doctor-" in each]


def test_an_interrupted_trial_leaves_no_scope(keeper: Scopekeeper) -> None:
    """Signal the whole process group, as Ctrl-C does, at each moment of the launch."""
    took = 0.0
    for part in (None, *rounds(60, least=8, seconds=8)):
        doctor = subprocess.Popen(
            [PROGRAM, "doctor"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True, text=True,
        )  # fmt: skip
        keeper.started.append(doctor)
        (child, *_) = eventually(lambda doctor=doctor: trials_of(doctor.pid), pause=0.001)
        began = time.monotonic()
        if part is None:  # how long it takes
            eventually(lambda child=child: not os.path.exists(f"/proc/{child}"), pause=0.001)
            took = time.monotonic() - began
        else:
            until = began + part * took
            eventually(lambda until=until: time.monotonic() >= until, pause=0.0005)
            os.killpg(doctor.pid, signal.SIGINT)
        doctor.communicate(timeout=300)
        eventually(lambda: not trial_scopes(), seconds=10)
