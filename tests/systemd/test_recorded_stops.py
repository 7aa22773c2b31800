"""What a stop records: who asked for it, and the end of every member, whatever its record says."""

import os

import pytest

from tests.machine import ATTRIBUTE, FOREVER, directory_of, eventually

from .guard import UNIT
from .manager import main_pid

pytestmark = pytest.mark.systemd


def test_a_stop_that_nobody_asked_for_names_the_keeper(keeper, guard, session):
    guard.start()
    owner = keeper.popen(list(FOREVER))
    keeper.member("-s", session, "--owner", str(owner.pid), "--", *FOREVER)
    eventually(lambda: any(each["session"] == session for each in keeper.scopes()))
    owner.kill()
    owner.wait()
    (end,) = guard.ends(session)
    assert end["reason"] == "owner gone"
    assert end["stopper"] == {
        "pid": main_pid(UNIT), "uid": os.getuid(), "command": "scopekeeper",
    }  # fmt: skip


@pytest.mark.parametrize("has_keeper", [False, True])
def test_a_member_with_a_damaged_record_has_an_end_with_the_reason(
    keeper, guard, session, has_keeper
):
    if has_keeper:
        guard.start()
    members = [keeper.member("-s", session, "-n", name, "--", *FOREVER) for name in ("a", "b")]
    os.setxattr(directory_of(members[0].pid), ATTRIBUTE, b"\xff no record")
    done = keeper.call("stop", "-s", session, "--reason", "over")
    assert done.returncode == 0, done.stderr
    ends = eventually(lambda: len(found := guard.history(session)) == 2 and found)
    assert {(end["member"], end["reason"]) for end in ends} == {
        ("a", "stopped by request"), ("b", "stopped by request"),
    }  # fmt: skip
    assert all(end["stopper"]["pid"] == os.getpid() for end in ends)
    damaged = next(end for end in ends if end["member"] == "a")
    assert (damaged["pid"], damaged["processes"]) == (members[0].pid, 1)
    assert damaged["argv"] == list(FOREVER)
