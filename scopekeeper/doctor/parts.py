"""What of scopekeeper is installed, delegated to it, and running."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from scopekeeper.doctor.finding import Finding, Status
from scopekeeper.doctor.machine import version_of
from scopekeeper.errors import ScopekeeperError
from scopekeeper.install.locations import UNIT_FOLDERS
from scopekeeper.install.systemctl import KEEPER as UNIT
from scopekeeper.kernel import cgroupfs
from scopekeeper.launcher import direct
from scopekeeper.policy.files import find
from scopekeeper.scope.placement import SLICE, Place

_CONTROLLERS = ("memory", "pids", "cpu")


def controllers(where: Place) -> Iterator[Finding]:
    """Tell whether limits have an effect."""
    folder = where.mount + where.manager_path if where.manager else where.base
    have = (cgroupfs.read(folder, "cgroup.controllers") or "").split()
    missing = [name for name in _CONTROLLERS if name not in have]
    if not missing:
        yield Finding("controllers", Status.OK, f"{', '.join(_CONTROLLERS)} are delegated")
        return
    whole = (cgroupfs.read(where.mount, "cgroup.controllers") or "").split()
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


def slice_(where: Place) -> Iterator[Finding]:
    """Tell whether the slice of all scopes is installed."""
    if not where.manager:
        return
    folder = _folder_of(SLICE, where.manager)
    if folder:
        yield Finding("slice", Status.OK, f"{SLICE} is installed in {folder}")
        return
    yield Finding(
        "slice", Status.NOTE, f"{SLICE} is not installed: systemd makes one without limits",
        _install(where.manager),
    )  # fmt: skip


def _folder_of(unit: str, manager: str) -> str:
    """Return the folder in which a unit is installed; '' where it is not."""
    folders = (Path(folder).expanduser() for folder in UNIT_FOLDERS[manager])
    return next((str(folder) for folder in folders if (folder / unit).exists()), "")


def _install(manager: str) -> str:
    sudo = "sudo " if manager == "system" and os.geteuid() else ""
    return f"{sudo}scopekeeper install --{manager}"


def launcher() -> Finding:
    """Tell how the interpreter is started for a launch."""
    script = Path(sys.argv[0])
    try:
        fast = direct.is_direct(script)
    except OSError:
        fast = False
    if fast:
        return Finding("launcher", Status.OK, f"{script} starts the interpreter without site")
    return Finding(
        "launcher", Status.NOTE, "each launch loads the interpreter's site module (3 ms)",
        f"{sys.executable} -m scopekeeper.launcher.direct",
    )  # fmt: skip


def shell() -> Iterator[Finding]:
    """Tell whether what stands in ``SHELL=`` is really there."""
    from scopekeeper.launch.real_shell import NAME

    wanted = os.environ.get("SHELL", "")
    if os.path.basename(wanted) == NAME and not os.access(wanted, os.X_OK):
        yield Finding(
            "shell", Status.LIMIT, f"SHELL={wanted} is no program: nothing starts through it",
            f"set it to {Path(sys.argv[0]).absolute().with_name(NAME)}",
        )  # fmt: skip
    elif os.path.basename(wanted) == NAME:
        yield Finding("shell", Status.OK, f"{wanted} contains what is started through SHELL")


def policy() -> Finding:
    """Tell which rules for lanes are in force."""
    from scopekeeper.policy.load import load
    from scopekeeper.policy.rules import PolicyError

    try:
        load()
    except PolicyError as error:
        return Finding("policy", Status.LIMIT, error.message, "mend the file")
    found = find()
    if found.ignored:
        return Finding("policy", Status.LIMIT, "; ".join(found.ignored), "mend it, or move it away")
    files = ", ".join(path for path in found.sources if os.path.exists(path))
    return Finding("policy", Status.OK, files or "no file: what is built in holds")


def keeper(where: Place) -> Finding:
    """Tell whether a keeper runs."""
    from scopekeeper.exec import keeper_address
    from scopekeeper.keeper.processes import sources_here

    ways = ", ".join(sources_here())
    folder = _folder_of(UNIT, where.manager) if where.manager else ""
    if folder and os.path.realpath(f"{folder}/{UNIT}") == os.devnull:
        option = " --user" if where.manager == "user" else ""
        return Finding(
            "keeper", Status.NOTE, f"{UNIT} is masked in {folder}: what the keeper would do at "
            "once is left to reconcile, and `exec` starts nothing",
            f"systemctl{option} unmask {UNIT}",
        )  # fmt: skip
    if keeper_address.runs():
        unit = "" if folder or not where.manager else f"; {UNIT} is not installed"
        return Finding("keeper", Status.OK, f"runs{unit}; learns how processes ended by: {ways}")
    if folder:
        return Finding(
            "keeper", Status.OK, f"does not run; {UNIT} in {folder} starts with the next scope"
        )
    return Finding(
        "keeper", Status.NOTE, "does not run: what it would do at once is left to reconcile",
        _install(where.manager) if where.manager else "scopekeeper keeper --standalone",
    )  # fmt: skip


def runs(where: Place) -> Iterator[Finding]:
    """Tell what survives of a run of ``exec`` when its keeper does not."""
    from scopekeeper.kernel.exit_status import PidfdSource

    if not where.manager:
        yield Finding(
            "exec", Status.NOTE,
            "without systemd nothing keeps the terminals of runs for the next keeper: if theirs "
            "is killed, their commands get SIGHUP, and how they end may not be known; nothing "
            "starts it again but the next exec, attach, send, wait or logs -f",
            f"what it has to say is in {_messages()}",
        )  # fmt: skip
        return
    if not PidfdSource.works():
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
    from scopekeeper.systemd import calls

    try:
        if version_of(manager)[0] < 254:
            return "upgrade to systemd 254 or later"
        if calls.service_property(manager, UNIT, "FileDescriptorStorePreserve") == "yes":
            return ""
    except ScopekeeperError:
        return ""  # it was said above that it does not answer
    return _install(manager)


def _messages() -> str:
    from scopekeeper import state
    from scopekeeper.exec.spawn_keeper import LOG

    try:
        return str(state.directory() / LOG)
    except ScopekeeperError:
        return LOG
