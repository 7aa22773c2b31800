"""Checks what this machine has of what scopekeeper needs; each finding has the command to mend it.

The last check is a real launch and a real stop: what the others only infer, it shows.
"""

import enum
import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import scopekeeper
from scopekeeper import cgroup, lingering, records, stop
from scopekeeper.errors import ScopekeeperError
from scopekeeper.history import Cause, Reason
from scopekeeper.launch import place
from scopekeeper.launch.rules import sources

_KERNEL = (5, 14)
"""cgroup.kill came with Linux 5.14; attributes on cgroup2 with 5.7."""
_CONTROLLERS = ("memory", "pids", "cpu")
_UNIT_FOLDERS = {
    "system": ("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system",
               "/usr/lib/systemd/system", "/lib/systemd/system"),
    "user": ("~/.config/systemd/user", "/etc/systemd/user", "/run/systemd/user",
             "~/.local/share/systemd/user", "/usr/local/lib/systemd/user",
             "/usr/lib/systemd/user"),
}  # fmt: skip


class Status(enum.Enum):
    """How much a finding matters."""

    OK = "ok"
    NOTE = "note"
    LIMIT = "limit"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check."""

    check: str
    status: Status
    detail: str
    fix: str = ""
    """The command, or the sentence, that mends it."""


def examine() -> list[Finding]:
    """Run all checks; those that build on a failed one are left out."""
    findings = [_hierarchy(), _kernel()]
    if findings[0].status is Status.FAIL:
        return findings
    findings += _container()
    caller = place.Caller()
    findings += _systemd(caller)
    try:
        where = place.find(caller)
    except ScopekeeperError as error:
        findings.append(Finding("placement", Status.FAIL, error.message, _remedy(caller.uid)))
        return findings
    findings.append(Finding("placement", Status.OK, f"new scopes go to {where}"))
    findings += _controllers(where)
    findings += _slice(where)
    findings.append(_launcher())
    findings.append(_policy())
    findings.append(_keeper(where))
    findings += _runs(where)
    findings.append(_trial(caller.mount))
    return findings


def verdict(findings: list[Finding]) -> int:
    """Return 0 where scopekeeper is usable, 1 with limits, 2 where it is not."""
    statuses = {finding.status for finding in findings}
    return 2 if Status.FAIL in statuses else 1 if Status.LIMIT in statuses else 0


def _hierarchy() -> Finding:
    try:
        mount = place.mount_point()
        place.cgroup_of()
    except LookupError as error:
        return Finding(
            "cgroup2", Status.FAIL, f"{error.args[0]} (version 1 only)",
            "boot with systemd.unified_cgroup_hierarchy=1 on the kernel command line",
        )  # fmt: skip
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    if any(line.split()[2] == "cgroup" for line in mounts.splitlines()):
        return Finding(
            "cgroup2", Status.LIMIT,
            f"mounted at {mount} beside version 1, which may hold the controllers (hybrid)",
            "boot with systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=all to have limits",
        )  # fmt: skip
    return Finding("cgroup2", Status.OK, f"mounted at {mount}")


def _kernel() -> Finding:
    release = platform.release()
    numbers = tuple(int(part) for part in re.findall(r"\d+", release)[:2])
    if numbers < _KERNEL:
        return Finding(
            "kernel", Status.FAIL, f"{release} has no cgroup.kill",
            f"upgrade to Linux {'.'.join(map(str, _KERNEL))} or later",
        )  # fmt: skip
    return Finding("kernel", Status.OK, release)


def _container() -> Iterator[Finding]:
    for mark in ("/run/systemd/container", "/.dockerenv", "/run/.containerenv"):
        if Path(mark).exists():
            text = Path(mark).read_text(encoding="utf-8", errors="replace").strip()
            kind = text if mark.startswith("/run/systemd") else ""
            yield Finding("container", Status.NOTE, f"this is a container {kind}".rstrip())
            return


def _systemd(caller: place.Caller) -> Iterator[Finding]:
    if not place.exists("/run/systemd/system"):
        yield Finding(
            "systemd", Status.LIMIT,
            "not running: scopes are plain cgroups, and nothing but a keeper or reconcile ends "
            "them when their gateway or their time is over",
            "run this where systemd is PID 1",
        )  # fmt: skip
        return
    kind = "system" if caller.uid == 0 else "user"
    number = 0
    try:
        number, full = _version(kind)
    except (ScopekeeperError, OSError) as error:
        yield Finding(
            "manager", Status.LIMIT if caller.uid else Status.FAIL,
            f"the {kind} manager does not answer: {error}", _remedy(caller.uid),
        )  # fmt: skip
    else:
        yield _judge_version(number, full)
        yield Finding("manager", Status.OK, f"the {kind} manager answers")
    if caller.uid:
        yield _linger(caller.uid)


def _version(kind: str) -> tuple[int, str]:
    from scopekeeper import systemd

    full = systemd.version(kind)
    match = re.match(r"v?(\d+)", full)
    return (int(match[1]) if match else 0), full


def _judge_version(number: int, full: str) -> Finding:
    upgrade = "upgrade to systemd 254 or later, or run: scopekeeper reconcile"
    if number < 249:
        return Finding(
            "systemd", Status.LIMIT,
            f"{full} is older than what is tested (252), and lacks StopPropagatedFrom= (249)",
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
        return Finding("linger", Status.OK, f"the manager of {name} stays when nobody is logged in")
    return Finding(
        "linger", Status.LIMIT,
        f"the manager of {name} ends, with all scopes and runs, at the last logout",
        lingering.remedy(uid),
    )  # fmt: skip


def _remedy(uid: int) -> str:
    if uid and place.exists("/run/systemd/system"):
        return f"{lingering.remedy(uid)}, then log in again"
    return (
        "give it a delegated cgroup: a service with Delegate=yes, or a container with a "
        "writable /sys/fs/cgroup"
    )


def _controllers(where: place.Place) -> Iterator[Finding]:
    folder = where.mount + where.manager_path if where.manager else where.base
    have = (cgroup.read(folder, "cgroup.controllers") or "").split()
    missing = [name for name in _CONTROLLERS if name not in have]
    if not missing:
        yield Finding("controllers", Status.OK, f"{', '.join(_CONTROLLERS)} are delegated")
        return
    whole = (cgroup.read(where.mount, "cgroup.controllers") or "").split()
    fix = "delegate them to this container or service (Delegate=yes)"
    if where.manager == "user" and not set(missing) - set(whole):
        fix = (
            "sudo mkdir -p /etc/systemd/system/user@.service.d && printf "
            "'[Service]\\nDelegate=cpu cpuset io memory pids\\n' | sudo tee "
            "/etc/systemd/system/user@.service.d/delegate.conf, then daemon-reload and log in again"
        )
    yield Finding(
        "controllers", Status.LIMIT,
        f"{', '.join(missing)} not delegated: limits on these have no effect", fix,
    )  # fmt: skip


def _slice(where: place.Place) -> Iterator[Finding]:
    if not where.manager:
        return
    for folder in _UNIT_FOLDERS[where.manager]:
        if Path(folder, place.SLICE).expanduser().exists():
            yield Finding("slice", Status.OK, f"{place.SLICE} is installed in {folder}")
            return
    unit = Path(scopekeeper.__file__).parent / "units" / place.SLICE
    option = " --user" if where.manager == "user" else ""
    yield Finding(
        "slice", Status.NOTE, f"{place.SLICE} is not installed: systemd makes one without limits",
        f"systemctl{option} link {unit}",
    )  # fmt: skip


def _launcher() -> Finding:
    script = Path(sys.argv[0])
    try:
        direct = script.read_text(encoding="utf-8").split("\n", 1)[0].endswith(" -IS")
    except (OSError, UnicodeDecodeError):
        direct = False
    if direct:
        return Finding("launcher", Status.OK, f"{script} starts the interpreter without site")
    return Finding(
        "launcher", Status.NOTE, "each launch loads the interpreter's site module (3 ms)",
        f"{sys.executable} -m scopekeeper.launch.direct",
    )  # fmt: skip


def _policy() -> Finding:
    from scopekeeper.policy.load import load
    from scopekeeper.policy.rules import PolicyError

    try:
        load()
    except PolicyError as error:
        return Finding("policy", Status.LIMIT, error.message, "mend the file")
    files = ", ".join(path for path in sources() if os.path.exists(path))
    return Finding("policy", Status.OK, files or "no file: what is built in holds")


def _keeper(where: place.Place) -> Finding:
    from scopekeeper.keeper.lock import runs
    from scopekeeper.keeper.processes import sources_here

    ways = ", ".join(sources_here())
    if runs():
        return Finding("keeper", Status.OK, f"runs; learns how processes ended by: {ways}")
    return Finding(
        "keeper", Status.NOTE, "does not run: what it would do at once is left to reconcile",
        "scopekeeper keeper" if where.manager else "scopekeeper keeper --standalone",
    )  # fmt: skip


def _runs(where: place.Place) -> Iterator[Finding]:
    """Tell what survives of a run of ``exec`` when its keeper does not."""
    from scopekeeper.keeper.exits import Pidfd

    if not where.manager:
        yield Finding(
            "exec", Status.NOTE,
            "without systemd nothing keeps the terminals of runs for the next keeper: if theirs "
            "is killed, their commands get SIGHUP, and how they end may not be known; nothing "
            "starts it again but the next exec, attach, send, wait or logs -f",
            f"what it has to say is in {_messages()}",
        )  # fmt: skip
        return
    if not Pidfd.works():
        yield Finding(
            "exec", Status.NOTE,
            "the terminals of runs survive their keeper; how one ends while there is none cannot "
            "be known before Linux 6.15",
        )  # fmt: skip
    else:
        yield Finding("exec", Status.OK, "runs survive their keeper, and so does how they end")
    fix = _keeps_no_stopped_store(where.manager)
    if fix:
        yield Finding(
            "exec", Status.NOTE,
            "`systemctl stop` of the keeper hangs up the terminals of runs, and most commands end "
            "with that; its crash and its restart do not",
            fix,
        )  # fmt: skip


def _keeps_no_stopped_store(manager: str) -> str:
    """Return what would have systemd keep the terminals of a stopped keeper; '' where it does."""
    from scopekeeper import systemd
    from scopekeeper.pty.reach import UNIT

    try:
        if _version(manager)[0] < 254:
            return "upgrade to systemd 254 or later"
        if systemd.service_property(manager, UNIT, "FileDescriptorStorePreserve") == "yes":
            return ""
    except ScopekeeperError:
        return ""  # it was said above that it does not answer
    return f"install {Path(scopekeeper.__file__).parent / 'units' / UNIT}, as the README has it"


def _messages() -> str:
    from scopekeeper import state
    from scopekeeper.pty.alone import LOG

    try:
        return str(state.directory() / LOG)
    except ScopekeeperError:
        return LOG


_TRIAL = """\
import sys
sys.path.insert(0, sys.argv[1])
from scopekeeper.launch import run
run({"session": "scopekeeper", "lane": "doctor", "run": sys.argv[2], "lifetime": "detached",
     "kind": "exec"}, ["sleep", "60"])
"""


def _trial(mount: str) -> Finding:
    """Start a command in a scope of its own, read its record back, and stop it."""
    folder = str(Path(scopekeeper.__file__).parents[1])
    argv = [sys.executable, "-IS", "-c", _TRIAL, folder, os.urandom(4).hex()]
    began = time.monotonic()
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        path = _leaf_of(process)
        if not path:
            process.kill()
            error = (process.communicate()[1] or b"").decode("utf-8", "replace").strip()
            return Finding("trial", Status.FAIL, f"a launch failed: {error or 'it hung'}")
        if cgroup.attribute(mount + path, records.ATTRIBUTE) is None:
            return Finding("trial", Status.FAIL, f"no record can be read back from {path}")
        scope = path.rpartition("/")[0]
        # no grace: what has to be shown to work is the kernel's cgroup.kill
        target = stop.Target(mount + scope, scope, grace=0.0)
        cause = Cause(Reason.STOPPED, "the trial of scopekeeper doctor")
        warnings: list[str] = []
        result = stop.stop([target], causes=[cause], warnings=warnings)[0]
        if result.outcome not in ("terminated", "killed") or process.wait(5) not in (
            -signal.SIGTERM,
            -signal.SIGKILL,
        ):
            return Finding(
                "trial", Status.FAIL, f"a stop failed: {result.problem or result.outcome}"
            )
    except (ScopekeeperError, OSError, subprocess.SubprocessError) as error:
        return Finding("trial", Status.FAIL, f"a launch or its stop failed: {error}")
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
    elapsed = (time.monotonic() - began) * 1000
    if warnings:
        return Finding("trial", Status.LIMIT, "; ".join(warnings))
    return Finding(
        "trial", Status.OK, f"a scope was made, recorded and stopped in {elapsed:.0f} ms"
    )


def _leaf_of(process: subprocess.Popen[bytes]) -> str:
    """Wait until the trial runs its command, and return its cgroup path; '' where it failed."""
    deadline = time.monotonic() + 35  # the launch itself gives systemd 30 s
    while process.poll() is None and time.monotonic() < deadline:
        if Path(f"/proc/{process.pid}/comm").read_text(encoding="utf-8").strip() == "sleep":
            return cgroup.path_of(process.pid)
        time.sleep(0.002)
    return ""
