"""Launches beside daemon-reload and daemon-reexec, without a pause between those."""

import itertools

import pytest

from tests.machine import scope_directories

from .faults import Faults, many
from .manager import systemctl

pytestmark = [pytest.mark.systemd, pytest.mark.timeout(1800)]


BUS = ("dbus.socket", "dbus.service")


@pytest.mark.parametrize("beside", ["nothing", "keeper", "no bus"])
def test_each_launch_is_contained_or_refused_while_systemd_reloads_and_executes_itself_anew(
    faults: Faults, beside: str
) -> None:
    try:
        launch_meanwhile(faults, beside)
    finally:
        systemctl("start", BUS[0])


def launch_meanwhile(faults: Faults, beside: str) -> None:
    """Have launches, members and the end of an owner beside it."""
    world = faults.world
    if beside == "keeper":
        world.keeper()
    if beside == "no bus":  # launches ask the manager itself
        systemctl("stop", BUS[0])
        systemctl("kill", "--signal=KILL", BUS[1])
    living, doomed = world.owner(), world.owner()
    for number in range(3):
        world.member(f"lives{number}", living, may="lives", own=True)
        world.member(f"ends{number}", doomed, may="lives", own=True)
    verbs = itertools.cycle(["daemon-reload", "daemon-reexec"])
    done = []

    def again() -> None:
        done.append(systemctl(next(verbs)).returncode)
        if len(done) == 4:  # its owner ends in the midst
            for number in range(3):
                world.members[f"ends{number}"].may = "ends"
            world.end_owner(doomed)

    made = faults.launches(many(1000, 100), again)
    while len(done) < 4:
        again()
    assert not any(done)
    faults.prove(made, f"{len(done)} daemon-reload and -reexec, beside {beside}")
    (scope,) = scope_directories()
    assert world.members["lives0"].about["cgroup"].startswith(scope.removeprefix("/sys/fs/cgroup"))
