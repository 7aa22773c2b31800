"""Do work as other users: root forks a child for each that gives up root's rights for good.

A user's rules, history and owned paths are read and written with that user's rights alone, so that
no file of theirs is a trap for root. Users cannot trace the children: a process that changed its
uid is not dumpable. They can stop or kill them, and lose only their own answer.
"""

import contextlib
import json
import os
import pwd
import select
import signal
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from scopekeeper.errors import ScopekeeperError

_MOST = 64 << 20
"""Bytes of one answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The result for one user."""

    uid: int
    value: Any = None
    """The return value of the work."""
    problem: str = ""
    """Why there is no value."""


@dataclass(slots=True)
class _Child:
    uid: int
    pid: int
    fd: int
    data: bytearray = field(default_factory=bytearray)
    is_over: bool = False


def users() -> list[int]:
    """Return the uids in the password database without root's, each once."""
    return sorted({entry.pw_uid for entry in pwd.getpwall()} - {0})


def ask(uids: Iterable[int], work: Callable[[], Any], seconds: float) -> list[Answer]:
    """Do the work as each of these users, in parallel, and return the results by uid.

    The work returns a JSON value. It runs without standard streams, with an environment that
    inherits only PATH, and for at most this many seconds.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    answers, children = [], []
    for uid in uids:
        try:
            children.append(_begin(pwd.getpwuid(uid), work))
        except KeyError:
            answers.append(Answer(uid, problem="not in the password database"))
    try:
        _collect(children, time.monotonic() + seconds)
    finally:
        for child in children:
            os.close(child.fd)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)  # not reaped yet: the pid is still its own
            os.waitpid(child.pid, 0)
    answers += map(_answer, children)
    return sorted(answers, key=lambda answer: answer.uid)


def _begin(entry: pwd.struct_passwd, work: Callable[[], Any]) -> _Child:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return _Child(entry.pw_uid, pid, reading)
    status = 1
    try:
        os.close(reading)
        _become(entry)
        with open(writing, "w", encoding="utf-8") as pipe:
            pipe.write(_tried(work))
        status = 0
    finally:
        os._exit(status)


def _become(entry: pwd.struct_passwd) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(null, stream)
    os.setgroups(os.getgrouplist(entry.pw_name, entry.pw_gid))
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
    os.chdir("/")
    os.umask(0o077)
    path = os.environ.get("PATH", os.defpath)
    os.environ.clear()
    os.environ |= {"HOME": entry.pw_dir, "USER": entry.pw_name, "LOGNAME": entry.pw_name,
                   "PATH": path, "XDG_RUNTIME_DIR": f"/run/user/{entry.pw_uid}"}  # fmt: skip


def _tried(work: Callable[[], Any]) -> str:
    try:
        return json.dumps({"value": work()})
    except ScopekeeperError as error:
        return json.dumps({"problem": str(error)})
    except Exception as error:  # noqa: BLE001  one user's failure must not affect the others
        return json.dumps({"problem": f"{type(error).__name__}: {error}"})


def _collect(children: list[_Child], deadline: float) -> None:
    """Read from the children until all have ended or the time is over."""
    poll = select.poll()
    by_fd = {child.fd: child for child in children}
    for fd in by_fd:
        poll.register(fd, select.POLLIN)
    while by_fd and (remaining := deadline - time.monotonic()) > 0:
        for fd, _ in poll.poll(remaining * 1000):
            child = by_fd[fd]
            chunk = os.read(fd, 1 << 16)
            child.data += chunk
            child.is_over = not chunk
            if child.is_over or len(child.data) > _MOST:
                poll.unregister(fd)
                del by_fd[fd]


def _answer(child: _Child) -> Answer:
    if not child.is_over:
        return Answer(child.uid, problem="no answer in time")
    try:
        answer = json.loads(child.data)
        return Answer(child.uid, answer.get("value"), answer.get("problem", ""))
    except (ValueError, AttributeError, RecursionError):
        return Answer(child.uid, problem="it was killed before it answered")
