"""The clock is set back, or forward: what counts time does not count by it."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    Scopekeeper,
    directory_of,
    eventually,
    is_alive,
    processes,
    record_of,
    text_of,
)

from .guard import Keeper

pytestmark = [
    pytest.mark.systemd, pytest.mark.root, pytest.mark.controllers, pytest.mark.machine,
]  # fmt: skip

DAYS = 3 * 86400
GRACE = 6
"""Seconds."""
Jump = Callable[[float], None]


def uptime() -> int:
    """Return microseconds of the clock that nobody can set."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


@pytest.fixture
def jump(expendable: None) -> Iterator[Jump]:
    """Give a hand that moves the clock by so many seconds; afterwards it goes right again."""
    ahead = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    try:
        yield lambda seconds: time.clock_settime(time.CLOCK_REALTIME, time.time() + seconds)
    finally:
        right = ahead + time.clock_gettime(time.CLOCK_BOOTTIME)
        time.clock_settime(time.CLOCK_REALTIME, right)


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Path]:
    """Give a folder that cannot be removed for as long as something is mounted in it."""
    folder = tmp_path / "room" / "turn"
    folder.mkdir(parents=True)
    yield folder
    subprocess.run(["umount", folder / "disk"], capture_output=True)


def test_nothing_ends_too_early_or_never_while_the_keeper_runs(
    guard: Keeper, keeper: Scopekeeper, session: str, busy: Path, jump: Jump
) -> None:
    grace = f"{GRACE}s"
    guard.policy(
        f'[lanes.default]\norphan_grace = "{grace}"\n'
        f'on_leader_exit = "stop"\nleader_grace = "{grace}"\n'
    )
    guard.start()
    began = uptime()
    owner = keeper.popen(list(FOREVER))
    words = ("-s", session, "-n")
    using = keeper.member(*words, "using", "--own", str(busy), "--", *FOREVER)
    orphan = keeper.member(*words, "orphan", "--owner", str(owner.pid), "--", *FOREVER)
    leader = keeper.member(*words, "leader", "--", "sh", "-c", "sleep 1000 & wait")
    left = eventually(lambda: processes(directory_of(leader.pid)) - {leader.pid})
    (busy / "disk").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", busy / "disk"], check=True)
    using.kill()
    using.wait()
    (claim,) = (guard.state / "owned").glob("*.claim")
    eventually(lambda: "ATTEMPTS=" in text_of(claim))
    limited = keeper.member(*words, "limited", "-l", "x", "--ttl", grace, "--", *FOREVER)
    created = int(record_of(os.path.dirname(directory_of(limited.pid)))["BOOTTIME"])
    leaves = [directory_of(each) for each in (orphan.pid, *left)]
    owner.kill()
    leader.kill()
    owner.wait()
    leader.wait()
    marks = [
        int(eventually(lambda at=at, key=key: record_of(at).get(key, "")))
        for at, key in zip(leaves, ("ORPHANED", "LEADERLESS"), strict=True)
    ]
    jump(DAYS)
    ages = [scope["age_s"] for scope in keeper.scopes()]
    jump(-2 * DAYS)
    assert all(0 <= age <= (uptime() - began) / 1e6 for age in ages)
    subprocess.run(["umount", busy / "disk"], check=True)
    since = dict(zip((orphan.pid, *left, limited.pid), (*marks, created), strict=True))
    while since:
        ended = eventually(lambda: next((pid for pid in since if not is_alive(pid)), 0))
        assert uptime() >= since.pop(ended) + GRACE * 1_000_000, "it ended too early"
    eventually(lambda: not busy.exists())
    ends = eventually(lambda: guard.ends(session)[3:] and guard.ends(session))
    assert {str(each["member"]): each["reason"] for each in ends} == {
        "using": "signalled",
        "orphan": "owner gone",
        "leader": "leader exited",
        "limited": "ttl",
    }
    assert len(ends) == 4
