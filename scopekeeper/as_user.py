"""Root does something as other users: each in a child that has given root's rights up for good.

What a user has (rules, history, owned paths) is read and written with the rights of that user
alone, so that no file of theirs is a trap for root. The children are not theirs to trace: a process
that changed its uid is not dumpable. They can stop or kill them, and that costs only their own
answer.
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
    """What came of it for one user."""

    uid: int
    value: Any = None
    """What the work returned."""
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
    """Return the uids of the password database but root's, each once."""
    return sorted({entry.pw_uid for entry in pwd.getpwall()} - {0})


def ask(uids: Iterable[int], work: Callable[[], Any], seconds: float) -> list[Answer]:
    """Have the work done as each of these users, at the same time, and return what it returned.

    The work returns what JSON has; it runs without standard streams, and with an environment that
    has nothing of root's. It may take so many seconds.
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
                os.kill(child.pid, signal.SIGKILL)  # not reaped yet: the number is still its own
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
    except Exception as error:  # noqa: BLE001  of one user, who must not keep the others from theirs
        return json.dumps({"problem": f"{type(error).__name__}: {error}"})


def _collect(children: list[_Child], deadline: float) -> None:
    """Read what the children write until all are over or the time is."""
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
        said = json.loads(child.data)
        return Answer(child.uid, said.get("value"), said.get("problem", ""))
    except (ValueError, AttributeError, RecursionError):
        return Answer(child.uid, problem="it was killed before it answered")
