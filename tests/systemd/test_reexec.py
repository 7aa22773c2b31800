"""Launches beside ``systemctl daemon-reexec``, which every upgrade of systemd does."""

import os
import subprocess

import pytest

from tests.machine import PROGRAM, ROOT, Scopekeeper, eventually, rounds, scope_directories

from .manager import scope_units, systemctl, uid_of

pytestmark = pytest.mark.systemd

LAUNCHES = 8
WHERE = ("cat", "/proc/self/cgroup")


def refused(argv: list[str], reexec: list[str], session: str) -> list[str]:
    """Launch again and again while systemd executes itself anew; return what went wrong."""
    problems = []
    for number, _ in enumerate(rounds(12, least=2)):
        launches = [
            subprocess.Popen(
                [*argv, "-s", f"{session}:{number}:{each}", "--", *WHERE],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for each in range(LAUNCHES)
        ]  # fmt: skip
        if number % 2:  # so that it is met at its end, too
            subprocess.run(reexec, check=True, capture_output=True, timeout=180)
            renewing = None
        else:
            renewing = subprocess.Popen(
                reexec, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        for launch in launches:
            out, words = launch.communicate(timeout=120)
            if launch.returncode or ".scope/m-cat." not in out:
                problems.append(f"{launch.returncode}: {out}{words}")
        if renewing is not None:
            assert renewing.wait(180) == 0
    return problems


def test_no_launch_is_refused_while_systemd_executes_itself_anew(
    keeper: Scopekeeper, session: str
) -> None:
    reexec = ["systemctl", *([] if ROOT else ["--user"]), "daemon-reexec"]
    assert refused(keeper.argv(), reexec, session) == []
    eventually(lambda: not scope_directories())
    eventually(lambda: not scope_units())
    assert systemctl("is-active", "scopekeeper.slice").stdout == "active\n"


@pytest.mark.root
def test_no_launch_of_a_user_is_refused_while_her_systemd_executes_itself_anew(
    keeper: Scopekeeper, session: str
) -> None:
    uid = uid_of("lab")
    if uid < 0:
        pytest.skip("there is no user lab")
    as_lab = [
        "setpriv", "--reuid=lab", "--regid=lab", "--init-groups", "--", "env", "-i",
        f"PATH={os.environ['PATH']}", "HOME=/home/lab", f"XDG_RUNTIME_DIR=/run/user/{uid}",
    ]  # fmt: skip
    launch = [*as_lab, PROGRAM, "run"]
    assert refused(launch, [*as_lab, "systemctl", "--user", "daemon-reexec"], session) == []
    eventually(lambda: not scope_directories())
    assert keeper
