"""What root does as another user it does with that user's rights alone."""

import os
import pwd
import signal
import time

import pytest

from scopekeeper import as_user
from scopekeeper.errors import StateError
from tests.machine import children_of

pytestmark = pytest.mark.root

NOBODY = pwd.getpwnam("nobody")


def who_am_i():
    return {
        "uids": os.getresuid(),
        "gids": os.getresgid(),
        "groups": os.getgroups(),
        "environment": dict(os.environ),
        "umask": os.umask(0),
        "streams": [os.readlink(f"/proc/self/fd/{number}") for number in range(3)],
        "memory is of": os.stat("/proc/self/mem").st_uid,
    }


def test_nothing_of_root_is_left(monkeypatch):
    monkeypatch.setenv("SCOPEKEEPER_STATE", "/root/secret")
    (found,) = as_user.ask([NOBODY.pw_uid], who_am_i, 30)
    assert (found.uid, found.problem) == (NOBODY.pw_uid, "")
    assert found.value["uids"] == [NOBODY.pw_uid] * 3
    assert found.value["gids"] == [NOBODY.pw_gid] * 3
    assert 0 not in found.value["groups"]
    assert found.value["environment"].keys() == {
        "HOME", "USER", "LOGNAME", "PATH", "XDG_RUNTIME_DIR",
    }  # fmt: skip
    assert found.value["umask"] == 0o077
    assert found.value["streams"] == ["/dev/null"] * 3
    assert found.value["memory is of"] == 0, "the user could trace it"
    assert os.getresuid() == (0, 0, 0)


def fails():
    raise StateError("no room", "make some")


def is_stopped():
    os.kill(os.getpid(), signal.SIGSTOP)


def is_killed():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("work", "problem"),
    [
        (fails, "no room; make some"),
        (lambda: 1 / 0, "ZeroDivisionError: division by zero"),
        (is_stopped, "no answer in time"),
        (is_killed, "it was killed before it answered"),
        (object, "TypeError: Object of type object is not JSON serializable"),
    ],
)
def test_what_goes_wrong_is_said(work, problem):
    began, before = time.monotonic(), set(children_of(os.getpid()))
    (found,) = as_user.ask([NOBODY.pw_uid], work, 1.0 if work is is_stopped else 60)
    assert found == as_user.Answer(NOBODY.pw_uid, problem=problem)
    assert time.monotonic() - began < 60
    assert set(children_of(os.getpid())) <= before


def test_one_user_does_not_keep_another_from_an_answer():
    daemon = pwd.getpwnam("daemon").pw_uid

    def work():
        return is_stopped() if os.getuid() == daemon else "x" * 1_000_000

    first, second = as_user.ask([NOBODY.pw_uid, daemon, 4_000_000_000], work, 2.0)[:2]
    assert (first.uid, first.problem) == (daemon, "no answer in time")
    assert (second.uid, second.value) == (NOBODY.pw_uid, "x" * 1_000_000)


def test_users_are_those_of_the_password_database_but_root():
    assert NOBODY.pw_uid in as_user.users()
    assert 0 not in as_user.users()
