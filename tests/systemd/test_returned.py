"""What leaves its member by a scope of its own is put back, unless it may be somebody else's."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    Scopekeeper,
    cgroup_of,
    environment_of,
    eventually,
    is_alive,
    text_of,
)

from . import browser
from .guard import Keeper
from .manager import Units, systemctl, systemd_run_argv

pytestmark = pytest.mark.systemd

Start = Callable[..., tuple[int, int, int]]


@pytest.fixture
def start(keeper: Scopekeeper, session: str, units: Units, tmp_path: Path) -> Start:
    """Give a function that starts a browser in a member; it returns their pids and the child's."""

    def start_browser(*how: str, kind: str = "mcp", number: int = 1) -> tuple[int, int, int]:
        unit = f"app-browser{number}-{session[-8:]}.scope"
        units.adopt(unit)
        file = tmp_path / f"pids{number}"
        argv = shlex.join([sys.executable, browser.__file__, unit, str(file), *how])
        script = f"{argv} & exec sleep 1000"
        member = keeper.member(
            "-s", session, "-n", "tools", "--kind", kind, "--", "sh", "-c", script
        )
        pids = eventually(lambda: text_of(file))
        first, second = map(int, pids.split())
        return member.pid, first, second

    return start_browser


def rows(keeper: Scopekeeper, *arguments: str) -> dict[int, dict[str, object]]:
    """Return what reconcile says of escaped processes, by pid."""
    done = keeper.call("reconcile", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["actions"]
    return {each["pid"]: each for each in found if each["class"] == "escaped"}


@pytest.mark.parametrize("how", [(), ("hidden",)])
def test_a_keeper_puts_a_browser_back_into_its_member(
    guard: Keeper, keeper: Scopekeeper, session: str, start: Start, how: tuple[str, ...]
) -> None:
    guard.start()
    leader, main, child = start(*how)
    home = cgroup_of(leader)
    eventually(lambda: cgroup_of(main) == cgroup_of(child) == home)
    (scope,) = keeper.scopes("-s", session, "--members")
    (member,) = scope["members"]  # type: ignore[misc, index]
    assert member["processes"] == len({leader, main, child})
    eventually(lambda: systemctl("is-active", f"app-browser1-{session[-8:]}.scope").stdout.strip()
               != "active")  # fmt: skip
    assert keeper.call("stop", "-s", session).returncode == 0
    assert not is_alive(main)
    assert not is_alive(child)


def test_a_keeper_puts_back_what_had_left_before_it_started(
    guard: Keeper, keeper: Scopekeeper, start: Start
) -> None:
    assert keeper
    leader, main, child = start()
    assert cgroup_of(main) != cgroup_of(leader)
    guard.start()
    eventually(lambda: cgroup_of(main) == cgroup_of(child) == cgroup_of(leader))


def test_without_a_keeper_reconcile_does(keeper: Scopekeeper, start: Start) -> None:
    leader, main, child = start()
    planned = rows(keeper, "--dry-run")
    assert (planned[main]["action"], planned[main]["outcome"]) == ("return", None)
    assert cgroup_of(main) != cgroup_of(leader)
    done = rows(keeper)
    assert done[main]["outcome"] == done[child]["outcome"] == "returned"
    assert cgroup_of(main) == cgroup_of(child) == cgroup_of(leader)
    assert rows(keeper) == {}


def test_what_a_shell_starts_stays_where_it_is(keeper: Scopekeeper, start: Start) -> None:
    leader, main, _ = start(kind="exec")
    assert rows(keeper)[main]["outcome"] == "reported"
    assert cgroup_of(main) != cgroup_of(leader)


def test_where_somebody_may_sit_at_a_terminal_nothing_is_moved_or_ended(
    guard: Keeper, keeper: Scopekeeper, session: str, start: Start
) -> None:
    """As in a terminal multiplexer, whose windows inherit its founder's environment."""
    leader, main, child = start("terminal")
    before = cgroup_of(main)
    assert before != cgroup_of(leader)
    for pid in (main, child):
        said = rows(keeper)[pid]
        assert (said["action"], said["outcome"]) == ("report", "reported")
        assert "terminal" in str(said["evidence"])
    done = keeper.call("stop", "-s", session, "--escaped")
    assert done.returncode == 6, done.stdout
    assert "where somebody may be" in done.stdout
    guard.policy('escaped = "stop"\n')
    config = {**os.environ, "SCOPEKEEPER_CONFIG": str(guard.rules)}
    assert keeper.call("reconcile", env=config).returncode == 0
    assert is_alive(main)
    assert is_alive(child)
    assert cgroup_of(main) == cgroup_of(child) == before


def test_a_scope_that_is_shared_with_others_stays(
    guard: Keeper, keeper: Scopekeeper, start: Start
) -> None:
    leader, main, _ = start()
    stranger = keeper.popen(FOREVER)
    Path(f"/sys/fs/cgroup{cgroup_of(main)}/cgroup.procs").write_text(str(stranger.pid))
    guard.start()
    second, its, _ = start(number=2)
    eventually(lambda: cgroup_of(its) == cgroup_of(second))
    assert rows(keeper)[main]["outcome"] == "reported"
    assert cgroup_of(stranger.pid) == cgroup_of(main) != cgroup_of(leader)


def test_what_names_another_session_than_its_scope_stays(
    keeper: Scopekeeper, session: str, units: Units
) -> None:
    member = keeper.member("-s", session, "--", *FOREVER)
    marks = {k: v for k, v in environment_of(member.pid).items() if k.startswith("SCOPEKEEPER_")}
    unit = f"renamed-{session[-8:]}.scope"
    units.adopt(unit)
    marks["SCOPEKEEPER_SESSION"] = "somebody's"
    process = keeper.popen(
        systemd_run_argv("--scope", "--collect", f"--unit={unit}", *FOREVER),
        env={**os.environ, **marks}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    eventually(lambda: unit in cgroup_of(process.pid))
    said = rows(keeper)[process.pid]
    assert said["outcome"] == "reported"
    assert "session somebody's" in str(said["evidence"])
    assert keeper.call("stop", "-s", session, "--escaped").returncode == 6
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
