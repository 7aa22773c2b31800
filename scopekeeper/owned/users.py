"""Find the processes that use a path, in procfs.

A process that cannot be read counts as a user: a path kept too long is found again, a path removed
too early is lost.
"""

import contextlib
import os
import time
from collections.abc import Callable, Collection, Iterable

from scopekeeper.kernel import cgroupfs, proc
from scopekeeper.kernel.mounts import is_within
from scopekeeper.owned.claim import Holder, Kind, raw
from scopekeeper.owned.container import PROGRAMS
from scopekeeper.scope import marker, names

_DELETED = " (deleted)"
_NAME = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
"""Bytes that continue a name: the text then has another path."""
_LOOKS = 100


def user_in(directory: str, path: str) -> str:
    """Return how a process of a cgroup uses a path or one below it, '' if none does.

    Repeats until it finds no new process, so that no fork is missed.
    """
    looked_at = {os.getpid()}
    for _ in range(_LOOKS):
        unread: list[cgroupfs.Unread] = []
        new = set(cgroupfs.processes(directory, unread)) - looked_at
        if unread:
            return f"{unread[0].directory} cannot be read ({unread[0].problem})"
        if not new:
            return ""
        for pid in sorted(new):
            how = use_of(pid, path)
            if how:
                return f"process {pid} {how}"
        looked_at |= new
    return "new processes come faster than they can be looked at"


def use_of(pid: int, path: str) -> str:
    """Return how one process uses a path, '' if it does not or has ended."""
    looks: tuple[Callable[[int, str], str], ...] = (_words, _links, _maps)
    try:
        for look in looks:
            how = look(pid, path)
            if how:
                return how
    except (FileNotFoundError, ProcessLookupError):
        return ""
    except OSError as error:
        if cgroupfs.path_of(pid):
            return f"cannot be looked at ({error.strerror})"
    return ""


def _words(pid: int, path: str) -> str:
    environment = _environment(pid)
    arguments = raw(proc.read(f"/proc/{pid}/cmdline"))
    wanted = raw(path)
    if mentions(arguments, wanted):
        return "has it in its arguments"
    if mentions(environment, wanted):
        return "has it in its environment"
    base = os.readlink(f"/proc/{pid}/cwd")
    for word in arguments.replace(b"=", b"\0").split(b"\0"):
        # relative to its working directory, or through a link
        if b"/" in word or os.path.lexists(os.path.join(os.fsencode(base), word)):
            real = os.path.realpath(os.path.join(os.fsencode(base), word))
            if is_within(real.decode("utf-8", "surrogateescape"), path):
                return "has it in its arguments"
    return ""


def _links(pid: int, path: str) -> str:
    for name, what in (("cwd", "works in it"), ("root", "has its root in it"),
                       ("exe", "is executed from it")):  # fmt: skip
        if is_within(_target(f"/proc/{pid}/{name}"), path):
            return what
    for descriptor in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            if is_within(_target(f"/proc/{pid}/fd/{descriptor}"), path):
                return "has it open"
    return ""


def _maps(pid: int, path: str) -> str:
    return "has it mapped" if mentions(raw(proc.read(f"/proc/{pid}/maps")), raw(path)) else ""


def _environment(pid: int) -> bytes:
    """Return the environment of a process; raises OSError.

    In the middle of execve the new program has neither arguments nor environment yet (Linux 6.18,
    fs/exec.c): that is waited out, else it would seem to use nothing.
    """
    for _ in range(_LOOKS):
        found = proc.environment(pid)
        if found or proc.read(f"/proc/{pid}/cmdline") or not _target(f"/proc/{pid}/exe"):
            return found
        time.sleep(0.001)
    return found


def mentions(text: bytes, path: bytes) -> bool:
    """Return whether text has the path or one below it; ``/tmp/x`` is not in ``/tmp/xy``."""
    at = text.find(path)
    while at >= 0:
        after = text[at + len(path) : at + len(path) + 1]
        if not after or after[0] not in _NAME:
            return True
        at = text.find(path, at + 1)
    return False


def _target(link: str) -> str:
    """Return the target of a link of procfs; '' for kernel threads and zombies."""
    try:
        target = os.readlink(os.fsencode(link))
    except FileNotFoundError:
        return ""
    return target.decode("utf-8", "surrogateescape").removesuffix(_DELETED)


def worker_below(path: str) -> str:
    """Return in words which process outside of our scopes works below path, else ''."""
    for pid in proc.pids():
        if pid == os.getpid():
            continue
        for name in ("cwd", "root", "exe"):
            with contextlib.suppress(OSError):
                place = _target(f"/proc/{pid}/{name}")
                if (
                    place != path
                    and is_within(place, path)
                    and not names.unit_of(cgroupfs.path_of(pid))
                ):
                    return f"process {pid} uses {place}"
    return ""


def with_tmpdir(paths: Collection[str]) -> dict[str, int]:
    """Return for each folder another process that has it as TMPDIR, if there is one.

    A member may have launched others that outlive it, and they have inherited the variable.
    """
    entries = {b"TMPDIR=" + raw(path): path for path in paths}
    found: dict[str, int] = {}
    for pid in proc.pids() if entries else ():
        if pid != os.getpid():
            with contextlib.suppress(OSError):
                for entry in entries.keys() & set(_environment(pid).split(b"\0")):
                    found.setdefault(entries[entry], pid)
    return found


def is_client(pid: int) -> bool:
    """Return whether a process is docker or podman itself, or cannot be looked at."""
    try:
        return os.path.basename(_target(f"/proc/{pid}/exe")) in PROGRAMS
    except OSError:
        return True


def escaped_from(
    holders: Iterable[Holder], counts: Callable[[int], bool] = lambda _: True
) -> dict[Holder, int]:
    """Return for each holder a process that was launched in it and lives outside, if there is one.

    A process can leave its cgroup; its environment still has the marker. counts says whether a
    process with this pid is looked for.
    """
    wanted = [holder for holder in holders if holder.cgroup]
    found: dict[Holder, int] = {}
    for process in filter(None, map(marker.look, proc.pids() if wanted else ())):
        inside = process.cgroup.split("/")
        for holder in wanted:
            of_member = holder.kind is Kind.MEMBER
            name, value = ("MEMBER", holder.leaf) if of_member else ("SCOPE", holder.unit)
            # by name: a scope that was made anew has the same name and another inode
            left = process.carries(name, value) and (holder.leaf or holder.unit) not in inside
            if left and counts(process.pid):
                found.setdefault(holder, process.pid)
    return found
