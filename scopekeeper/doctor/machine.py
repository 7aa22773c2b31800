"""Checks of the machine: cgroup version 2, kernel, procfs, container, systemd, lingering."""

import os
import platform
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from scopekeeper.doctor.finding import Finding, Status
from scopekeeper.doctor.remedies import remedy_by_words
from scopekeeper.errors import ScopekeeperError, words
from scopekeeper.kernel import containers, mounts, proc
from scopekeeper.scope.placement import Caller
from scopekeeper.systemd import lingering

_KERNEL = (5, 14)
"""cgroup.kill came with Linux 5.14; attributes on cgroup2 with 5.7."""
_PROMPT_MOVES = "favordynmods"
"""An option of cgroup2 since Linux 6.0: moves do not wait, but forks and exits take longer."""
_REAPING_SECONDS = 0.5
KEEPER = "scopekeeper keeper --linger infinity &"
UNSHARE = (
    "unshare --cgroup --mount sh -c 'umount /sys/fs/cgroup && mount -t cgroup2 cgroup2 "
    '/sys/fs/cgroup && exec "$@"\' sh COMMAND'
)
"""Gives a privileged container a cgroup namespace of its own."""


def hierarchy() -> Finding:
    """Check that cgroup version 2 is mounted, without version 1 beside it."""
    has_version_1 = any(kind == "cgroup" for _, kind in proc.mounts())
    try:
        mount = proc.mount_point()
        proc.cgroup_of()
        (Path(mount) / "cgroup.controllers").read_bytes()
    except LookupError as error:
        if has_version_1:
            return Finding(
                "cgroup2", Status.FAIL, f"{error.args[0]} (version 1 only)",
                "boot with systemd.unified_cgroup_hierarchy=1 on the kernel command line",
            )  # fmt: skip
        return Finding(
            "cgroup2", Status.FAIL, str(error.args[0]), "mount -t cgroup2 none /sys/fs/cgroup, or "
            "let the service see that mount (no InaccessiblePaths= or TemporaryFileSystem=)",
        )  # fmt: skip
    if has_version_1:
        return Finding(
            "cgroup2", Status.LIMIT,
            f"mounted at {mount} beside version 1, which may hold the controllers (hybrid)",
            "boot with systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=all to enable limits",
        )  # fmt: skip
    return Finding("cgroup2", Status.OK, f"mounted at {mount}")


def kernel() -> Finding:
    """Check that the kernel has cgroup.kill."""
    release = platform.release()
    numbers = tuple(int(part) for part in re.findall(r"\d+", release)[:2])
    if numbers < _KERNEL:
        return Finding(
            "kernel", Status.FAIL, f"{release} has no cgroup.kill",
            f"upgrade to Linux {'.'.join(map(str, _KERNEL))} or later",
        )  # fmt: skip
    return Finding("kernel", Status.OK, release)


def moves() -> Iterator[Finding]:
    """Report whether the kernel moves a process to another cgroup without waiting.

    By default the first move after a pause waits for a grace period of RCU, in the same way when
    systemd moves it: 15 ms in the median. A container cannot change that.
    """
    mount = proc.mount_point()
    if containers.in_container():
        return
    if _PROMPT_MOVES in mounts.options_of(mount).split(","):
        detail = f"at once: {mount} is mounted with {_PROMPT_MOVES}"
    else:
        detail = (
            "the first launch after a pause waits some 15 ms for the kernel, as systemd-run "
            f"--scope does; this avoids it: mount -o remount,{_PROMPT_MOVES} {mount}"
        )
    yield Finding("moves", Status.OK, detail)


def procfs() -> Finding:
    """Check that boot id and start times can be read, which prove the identity of processes."""
    boot = proc.boot_id()
    proc.start_time("self")
    return Finding("proc", Status.OK, f"boot {boot}")


def container() -> Iterator[Finding]:
    """Note if this is a container, and check that its first process reaps."""
    for mark in containers.MARKS:
        if Path(mark).exists():
            text = Path(mark).read_text(encoding="utf-8", errors="replace").strip()
            kind = text if mark.startswith("/run/systemd") else ""
            yield Finding("container", Status.NOTE, f"this is a container {kind}".rstrip())
            break
    else:
        if containers.in_container():
            yield Finding("container", Status.NOTE, "this is a container")
    if not proc.exists("/run/systemd/system") and not _is_reaped():
        yield Finding(
            "init", Status.LIMIT,
            f"process 1 ({proc.comm(1)}) does not reap what lost its parent: zombies pile up, and "
            "each keeps its pid",
            "start the container with an init: docker run --init, podman run --init, or tini",
        )  # fmt: skip


def cgroup_namespace(caller: Caller) -> Iterator[Finding]:
    """Check that a container without systemd has a cgroup namespace of its own."""
    if not containers.without_systemd() or not containers.shares_hierarchy(
        caller.mount, caller.path
    ):
        return
    yield Finding(
        "cgroupns", Status.LIMIT,
        f"this container has no cgroup namespace of its own: its cgroup is {caller.path}, and `ls` "
        "also shows scopes of other containers",
        "start it with --cgroupns=private; in a privileged pod of Kubernetes, start its command "
        f"with: {UNSHARE}",
    )  # fmt: skip


def _is_reaped() -> bool:
    """Return False if a process that lost its parent stays a zombie below process 1."""
    argv = ["sh", "-c", "sleep 0 & echo $!"]
    found = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True, timeout=10)
    deadline = time.monotonic() + _REAPING_SECONDS
    while (stat := proc.stat_of(int(found.stdout))) is not None and stat.parent == 1:
        if time.monotonic() > deadline:
            return stat.state != "Z"
        time.sleep(0.01)
    return True


def systemd(caller: Caller) -> Iterator[Finding]:
    """Check systemd's version, and that the user's manager answers and lingers."""
    if not proc.exists("/run/systemd/system"):
        yield Finding(
            "systemd", Status.LIMIT,
            "not running: scopes are plain cgroups, and only a keeper or reconcile ends them when "
            "their gateway ends or their time is up",
            f"start the keeper before the gateway: {KEEPER}" if containers.without_systemd()
            else "run this where systemd is PID 1",
        )  # fmt: skip
        return
    kind = "system" if caller.uid == 0 else "user"
    number = 0
    try:
        number, full = version_of(kind)
    except (ScopekeeperError, OSError) as error:
        yield Finding(
            "manager", Status.LIMIT if caller.uid else Status.FAIL,
            f"the {kind} manager does not answer: {words(error)}",
            remedy_by_words(str(error)) or remedy(),
        )  # fmt: skip
    else:
        yield _judge_version(number, full)
        yield Finding("manager", Status.OK, f"the {kind} manager answers")
    if caller.uid:
        yield _linger(caller.uid)


def version_of(kind: str) -> tuple[int, str]:
    """Return a manager's version, as a number and as text; raises ScopekeeperError, OSError."""
    from scopekeeper.systemd.calls import version

    full = version(kind)
    match = re.match(r"v?(\d+)", full)
    return (int(match[1]) if match else 0), full


def _judge_version(number: int, full: str) -> Finding:
    upgrade = "upgrade to systemd 254 or later, or run: scopekeeper reconcile"
    if number < 249:
        return Finding(
            "systemd", Status.LIMIT,
            f"{full} is older than the oldest tested (252), and lacks StopPropagatedFrom= (249)",
            upgrade,
        )  # fmt: skip
    if number < 254:
        return Finding(
            "systemd", Status.LIMIT,
            f"{full}: `systemctl restart` of a gateway leaves its scopes to reconcile "
            "(its stop and its crash end them)",
            upgrade,
        )  # fmt: skip
    return Finding("systemd", Status.OK, full)


def _linger(uid: int) -> Finding:
    name = lingering.user_name(uid)
    if lingering.lingers(uid):
        return Finding("linger", Status.OK, f"the manager of {name} runs on after the last logout")
    return Finding(
        "linger", Status.LIMIT,
        f"the manager of {name} ends, with all scopes and runs, at the last logout",
        lingering.remedy(uid),
    )  # fmt: skip


def remedy() -> str:
    """Return how this user can get a place for scopes."""
    uid = os.getuid()
    if uid and lingering.lingers(uid):
        return (
            f"let the service reach /run/user/{uid}: no ProtectHome=, and AF_UNIX in "
            "RestrictAddressFamilies="
        )
    if uid and proc.exists("/run/systemd/system"):
        return f"{lingering.remedy(uid)}, then log in again"
    return (
        "run it in a delegated cgroup: a service with Delegate=yes, or a container with a writable "
        "/sys/fs/cgroup"
    )
