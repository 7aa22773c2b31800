"""Checks of scopekeeper's own parts: controllers, slice, launcher, shell, policy, keeper, runs."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from scopekeeper.doctor.finding import Finding, Status
from scopekeeper.doctor.machine import KEEPER, version_of
from scopekeeper.errors import ScopekeeperError
from scopekeeper.install.locations import UNIT_FOLDERS
from scopekeeper.install.shipped import DROP_IN
from scopekeeper.kernel import cgroupfs
from scopekeeper.kernel.containers import shares_hierarchy, without_systemd
from scopekeeper.launcher import direct
from scopekeeper.policy.files import find, find_file
from scopekeeper.scope.placement import Caller, Place
from scopekeeper.scope.placement_options import is_delegated
from scopekeeper.scope.snapshot import Reader
from scopekeeper.systemd.units import KEEPER as UNIT
from scopekeeper.systemd.units import SLICE, manager_uid, unit_at

_CONTROLLERS = ("memory", "pids", "cpu")


def controllers(where: Place, caller: Caller) -> Iterator[Finding]:
    """Check that the controllers for limits are delegated."""
    folder = where.mount + where.manager_path if where.manager else where.base
    have = (cgroupfs.read(folder, "cgroup.controllers") or "").split()
    missing = [name for name in _CONTROLLERS if name not in have]
    if not missing:
        yield Finding("controllers", Status.OK, f"{', '.join(_CONTROLLERS)} are delegated")
        return
    whole = (cgroupfs.read(where.mount, "cgroup.controllers") or "").split()
    fix = "delegate them to this service (Delegate=yes)"
    if where.manager:
        fix = "enable them where this machine or container is started"
    if without_systemd():
        fix = _enable_in_container(where, caller, missing)
    elif where.manager == "user" and not set(missing) - set(whole):
        fix = (
            "sudo mkdir -p /etc/systemd/system/user@.service.d && printf "
            "'[Service]\\nDelegate=cpu cpuset io memory pids\\n' | sudo tee "
            "/etc/systemd/system/user@.service.d/delegate.conf, then daemon-reload and log in again"
        )
    yield Finding(
        "controllers", Status.LIMIT,
        f"{', '.join(missing)} not delegated: limits on these have no effect", fix,
    )  # fmt: skip


def _enable_in_container(where: Place, caller: Caller, missing: list[str]) -> str:
    """Return how a container gets controllers for its scopes.

    A cgroup with processes of its own cannot give controllers to its children (cgroups(7)).
    """
    if shares_hierarchy(caller.mount, caller.path):
        return "give the container a cgroup namespace of its own, see cgroupns above"
    top, given = where.mount, cgroupfs.read(where.mount, "cgroup.controllers") or ""
    if absent := [name for name in missing if name not in given.split()]:
        return (
            f"the runtime gives this container no {', '.join(absent)}: run `scopekeeper doctor` on "
            "the machine, as the user of the runtime; it prints what to change there"
        )
    enabled = " ".join(f"+{name}" for name in missing)
    return (
        f"as root, before anything else starts in the container: mkdir -p {top}/init; "
        f"xargs -rn1 < {top}/cgroup.procs > {top}/init/cgroup.procs; "
        f"echo '{enabled}' > {top}/cgroup.subtree_control"
    )


def slice_(where: Place) -> Iterator[Finding]:
    """Check that the slice of all scopes is installed."""
    if not where.manager:
        return
    folder = _folder_of(SLICE, where.manager)
    if folder:
        yield Finding("slice", Status.OK, f"{SLICE} is installed in {folder}")
        return
    yield Finding(
        "slice", Status.NOTE, f"{SLICE} is not installed, and need not be: systemd creates it with "
        "the first scope; installed, it can have limits for all scopes together",
        _install(where.manager),
    )  # fmt: skip


def _folder_of(unit: str, manager: str) -> str:
    """Return the folder of an installed unit; '' if it is not installed."""
    folders = (Path(folder).expanduser() for folder in UNIT_FOLDERS[manager])
    return next((str(folder) for folder in folders if (folder / unit).exists()), "")


def _install(manager: str) -> str:
    sudo = "sudo " if manager == "system" and os.geteuid() else ""
    return f"{sudo}scopekeeper install --{manager}"


def launcher() -> Finding:
    """Check that a launch starts the interpreter without its site module."""
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
    """Check that ``SHELL``, if it names scopekeeper-shell, is a program."""
    from scopekeeper.launch.real_shell import NAME

    wanted = os.environ.get("SHELL", "")
    if os.path.basename(wanted) == NAME and not os.access(wanted, os.X_OK):
        yield Finding(
            "shell", Status.LIMIT, f"SHELL={wanted} is not a program: no command starts through it",
            f"set it to {Path(sys.argv[0]).absolute().with_name(NAME)}",
        )  # fmt: skip
    elif os.path.basename(wanted) == NAME:
        yield Finding("shell", Status.OK, f"{wanted} contains commands started through SHELL")


def policy() -> Finding:
    """Check that the policy files can be read."""
    from scopekeeper.policy.load import load
    from scopekeeper.policy.toml_file import PolicyError

    try:
        load()
    except PolicyError as error:
        return Finding("policy", Status.LIMIT, error.message, "correct the file")
    found = find()
    if found.ignored:
        problems = "; ".join(found.ignored)
        return Finding("policy", Status.LIMIT, problems, "correct the file, or move it away")
    files = ", ".join(path for path in found.sources if os.path.exists(path))
    return Finding("policy", Status.OK, files or "no file: the built-in rules apply")


def clients() -> Iterator[Finding]:
    """Check that a user's table of clients can be read, if there is one."""
    from scopekeeper.clients.compile import read
    from scopekeeper.clients.parse import ClientsError
    from scopekeeper.clients.variables import FILE

    found = find_file(FILE, "the table of clients")
    files = ", ".join(path for path in found.sources if os.path.exists(path))
    if found.ignored:
        problems = "; ".join(found.ignored)
        yield Finding("clients", Status.LIMIT, problems, "correct the file, or move it away")
    elif files:
        try:
            read(found.sources)
        except ClientsError as error:
            yield Finding("clients", Status.LIMIT, error.message, "correct the file")
        else:
            yield Finding("clients", Status.OK, files)


def commands() -> Iterator[Finding]:
    """Check that the programs of commands for ends and events are there."""
    from scopekeeper.policy.load import load
    from scopekeeper.policy.programs import missing
    from scopekeeper.policy.toml_file import PolicyError

    try:
        policy = load()
    except PolicyError:
        return  # policy() reports it
    found = dict(missing(policy))
    for rule, problem in found.items():
        yield Finding(
            "commands", Status.LIMIT, f"{rule.title} ({rule.source}): {problem}",
            "install it, correct the command, or set enabled = false",
        )  # fmt: skip
    if not found and any(rule.enabled for rule in policy.commands):
        yield Finding("commands", Status.OK, "the programs of all commands for events are there")


def hosts() -> Iterator[Finding]:
    """Check that the groups of hosts can be read, if there are any."""
    from scopekeeper.hosts import groups

    warnings: list[str] = []
    try:
        found = groups.load(warnings)
    except groups.HostsError as error:
        yield Finding("hosts", Status.LIMIT, error.message, error.hint or "correct the file")
        return
    if warnings:
        problems = "; ".join(warnings)
        yield Finding("hosts", Status.LIMIT, problems, "correct the file, or move it away")
    elif found:
        names = ", ".join(f"@{name}" for name in found)
        yield Finding("hosts", Status.OK, f"groups for -H: {names}")


def state_folder() -> Finding:
    """Check that what ends can be recorded."""
    from scopekeeper import state

    try:
        folder = state.directory()
    except ScopekeeperError as error:
        return Finding("state", Status.LIMIT, f"nothing is recorded: {error.message}", error.hint)
    nearest = next(each for each in (folder, *folder.parents) if each.exists())
    if os.access(nearest, os.W_OK | os.X_OK):
        return Finding("state", Status.OK, f"ends are recorded in {folder}")
    return Finding(
        "state", Status.LIMIT, f"nothing is recorded: {nearest} may not be written",
        "make it writable, or set SCOPEKEEPER_STATE to a folder that only you can write to",
    )  # fmt: skip


def keeper(where: Place) -> Finding:
    """Check that a keeper runs, or starts on demand."""
    from scopekeeper import keeper_address
    from scopekeeper.keeper.processes import sources_here

    ways = ", ".join(sources_here())
    folder = _folder_of(UNIT, where.manager) if where.manager else ""
    if folder and os.path.realpath(f"{folder}/{UNIT}") == os.devnull:
        option = " --user" if where.manager == "user" else ""
        return Finding(
            "keeper", Status.NOTE, f"{UNIT} is masked in {folder}: only reconcile cleans up, and "
            "`exec` starts nothing",
            f"systemctl{option} unmask {UNIT}",
        )  # fmt: skip
    if keeper_address.runs():
        unit = "" if folder or not where.manager else f"; {UNIT} is not installed"
        return Finding("keeper", Status.OK, f"runs{unit}; learns how processes ended by: {ways}")
    if folder:
        return Finding(
            "keeper", Status.OK, f"starts with the next scope; installed as {UNIT} in {folder}"
        )
    return Finding(
        "keeper", Status.NOTE, "not installed, and does not run: only reconcile cleans up",
        _install(where.manager) if where.manager else KEEPER,
    )  # fmt: skip


def gateways(caller: Caller) -> Iterator[Finding]:
    """Check that the scopes of each service end with it.

    A scope of the user's manager cannot be bound to a service of the system's.
    """
    if not caller.uid:
        return
    units = set(_owners(caller))
    here = caller.system_service()
    if here and not is_delegated(caller, here):
        units.add(unit_at(here))
    for unit in sorted(units):
        if not any(os.path.exists(f"{folder}/{unit}.d/{DROP_IN}")
                   for folder in UNIT_FOLDERS["system"]):  # fmt: skip
            yield Finding(
                "gateway", Status.LIMIT,
                f"{unit} is a service of the system's manager, its scopes are of the user's: "
                "`systemctl stop` does not end them, only a keeper or reconcile does",
                f"sudo scopekeeper install --system --gateway {unit}, or set Delegate=yes in it",
            )  # fmt: skip


def escapes(caller: Caller) -> Finding:
    """Say what can leave its scope without being seen by this user."""
    sudo = "" if caller.uid == 0 else "sudo "
    return Finding(
        "escaped", Status.OK,
        "`ls --escaped` finds what left its scope by its environment; a login that it opened "
        f"(su -, sudo -i): `{sudo}scopekeeper ls --escaped --all-users`, while its su or sudo runs",
    )  # fmt: skip


def _owners(caller: Caller) -> Iterator[str]:
    """Yield the services of the system's manager that own what lives in the user's."""
    for scope in Reader(caller.mount).snapshot(uid=caller.uid).scopes:
        if scope.manager != "user" or scope.elsewhere:
            continue
        for member in scope.living_members:
            owner = member.owner_state.owner if member.owner_state else None
            if (
                owner is not None
                and owner.unit
                and not manager_uid(owner.cgroup)
                and member.lifetime == "gateway"
            ):
                yield owner.unit


def runs(where: Place) -> Iterator[Finding]:
    """Check what a run of ``exec`` loses if its keeper dies."""
    from scopekeeper.kernel.exit_status import PidfdSource

    if not where.manager:
        yield Finding(
            "exec", Status.NOTE,
            "without systemd, no keeper inherits the terminals of runs: if the keeper is killed, "
            "their commands get SIGHUP, and their exit status may be lost; the next exec, attach, "
            "send, wait or logs -f starts a new one",
            f"read the keeper's messages in {_messages()}",
        )  # fmt: skip
        return
    if not PidfdSource.works():
        yield Finding(
            "exec", Status.NOTE,
            "the terminals of runs survive their keeper; without a keeper, the exit status is "
            "known only on Linux 6.15 and later",
        )  # fmt: skip
    else:
        yield Finding("exec", Status.OK, "runs and their exit status survive their keeper")
    fix = _keeps_no_stopped_store(where.manager)
    if fix:
        yield Finding(
            "exec", Status.NOTE,
            "`systemctl stop` of the keeper hangs up the terminals of runs, which ends most "
            "commands; a crash or restart of the keeper does not",
            fix,
        )  # fmt: skip


def _keeps_no_stopped_store(manager: str) -> str:
    """Return how to make systemd keep the terminals of a stopped keeper; '' if it does."""
    from scopekeeper.systemd import calls

    try:
        if version_of(manager)[0] < 254:
            return "upgrade to systemd 254 or later"
        if calls.service_property(manager, UNIT, "FileDescriptorStorePreserve") == "yes":
            return ""
        if calls.unit_property(manager, UNIT, "Transient") == "True" and _folder_of(UNIT, manager):
            return "nothing: it ends after its runs, and the installed keeper takes over"
    except ScopekeeperError:
        return ""  # machine.systemd() reports that the manager does not answer
    return _install(manager)


def _messages() -> str:
    from scopekeeper import state
    from scopekeeper.exec.spawn_keeper import LOG

    try:
        return str(state.directory() / LOG)
    except ScopekeeperError:
        return LOG
