"""Members of a gateway in Python where the scope is a folder of ours."""

import os
import subprocess

import pytest

import scopekeeper
from scopekeeper.errors import UsageError
from scopekeeper.python_api import posix_spawn
from tests.machine import (
    FOREVER,
    Scopekeeper,
    directory_of,
    is_alive,
    leaves,
    processes,
    record_of,
    scope_directories,
)

pytestmark = pytest.mark.root


@pytest.mark.parametrize("way", ["native", "launcher"])
def test_the_folder_is_made_joined_and_removed(
    keeper: Scopekeeper, session: str, folder: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "launcher":
        monkeypatch.setattr(posix_spawn, "is_there", lambda: False)
    home = directory_of("self")
    with scopekeeper.Cohort(session, placement=f"cgroup:{folder}") as cohort:
        with pytest.raises(FileNotFoundError):
            cohort.spawn("no-such-program-at-all")
        bad = os.memfd_create("bad", 0)
        with pytest.raises(OSError, match=r"Exec format|Permission"):
            cohort.spawn([f"/proc/self/fd/{bad}"], pass_fds=(bad,))
        os.close(bad)
        assert scope_directories(folder) == []
        members = [cohort.spawn(FOREVER, name=f"m{number}") for number in range(3)]
        (scope,) = scope_directories(folder)
        assert os.path.dirname(scope) == folder
        assert processes(scope) == {each.pid for each in members}
        assert len(leaves(scope)) == 3
        assert not any("JOINING" in record_of(each.directory) for each in members)
        # another program joins beside them, and stays
        other = keeper.member("-s", session, "--", *FOREVER)
        helped = cohort.spawn(
            ["sh", "-c", "setsid sleep 1000 & echo $!; exec sleep 1000"], stdout=subprocess.PIPE
        )
        helper = int(helped.stdout.readline())
        helped.stdout.close()
    assert not any(map(is_alive, (helper, helped.pid, *(each.pid for each in members))))
    assert processes(scope) == {other.pid}
    assert directory_of("self") == home
    with scopekeeper.Cohort(f"{session}:2", placement=f"cgroup:{folder}") as cohort:
        cohort.spawn(FOREVER)
    assert scope_directories(folder) == [scope]
    with pytest.raises(UsageError, match="not a cgroup2 directory"):
        scopekeeper.spawn(FOREVER, session=session, placement="cgroup:/sys")
