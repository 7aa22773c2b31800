"""``scopekeeper install``: writes everything, enables and starts it."""

import os
import pwd
import stat
import sys
from collections.abc import Mapping, Sequence

from scopekeeper.errors import ConfigError, RefusedError, UsageError
from scopekeeper.install import gateway_report, pip_scripts, plan, shell_folder
from scopekeeper.install import locations as placing
from scopekeeper.install.apply import (
    Applied,
    ManagerCommand,
    Talk,
    carry_out,
    look,
    plan_of,
    reloads,
    spelled,
)
from scopekeeper.install.gateway_drop_in import drop_ins, leaves_behind
from scopekeeper.install.locations import Locations, Piece
from scopekeeper.install.plan import FileAction, FileStep
from scopekeeper.install.shipped import ENABLED, TIMER
from scopekeeper.kernel.proc import mount_point
from scopekeeper.scope.snapshot import Reader
from scopekeeper.systemd import lingering
from scopekeeper.systemd.systemctl import Systemctl
from scopekeeper.systemd.units import KEEPER

_FIRST_USER = 1000
"""The lowest gid of users' groups; those below belong to the system."""


def manager_of(*, user: bool, system: bool, verb: str) -> str:
    """Return which manager to install for, that of the caller's uid; raises UsageError."""
    if user and system:
        raise UsageError("--user and --system are two managers", "give one of them")
    is_root = os.geteuid() == 0
    if user and is_root:
        raise UsageError("root's scopes are the system manager's", "give --system")
    if system and not is_root:
        raise UsageError("--system is for root", f"sudo scopekeeper {verb} --system, or --user")
    return "system" if is_root else "user"


def places_of(manager: str, environment: Mapping[str, str]) -> Locations:
    """Return the folders of a manager; raises ConfigError."""
    if manager == "user" and not environment.get("HOME", "").startswith("/"):
        raise ConfigError("HOME is not set", "it says where the user's units are")
    return placing.find(manager, environment)


def pieces_for(places: Locations, program: str, documents: Mapping[str, str]) -> list[Piece]:
    """Return all files to install; raises ConfigError.

    documents are manual pages and completions by their path below a ``share`` folder.
    """
    # man and the shells also look beside a program in PATH
    folder = os.path.dirname(program)
    is_found = folder in os.environ.get("PATH", "").split(":")
    beside = [f"{os.path.dirname(folder)}/share"] if is_found else []
    return placing.pieces(places, program, documents, beside)


def install(
    manager: Systemctl,
    places: Locations,
    program: str,
    documents: Mapping[str, str],
    gateway: str = "",
    *,
    shell: bool = False,
    dry_run: bool = False,
    launchers: bool = True,
) -> Applied:
    """Install for one manager; raises ScopekeeperError and then leaves everything unchanged.

    gateway is the unit that gets a drop-in, '' for none; shell sets its ``SHELL`` to ours. Without
    a gateway, shell makes the folder with a ``bash`` that is ours. launchers also replaces those
    that pip wrote.
    """
    if places.manager == "system":
        refuse_writable(program)
    wants_folder = shell and not gateway
    change = Applied()
    actions = plan.install(pieces_for(places, program, documents), look)
    actions += drop_ins(manager, places, program, gateway, shell=shell)
    actions += shell_folder.install(places, program, wanted=wants_folder)
    plan_of(actions, change)
    talk = _talk(actions, manager)
    ran_before = manager.runs(KEEPER)
    change.ran = spelled(talk)
    if not dry_run:
        carry_out(actions, talk, manager, change)
    _remarks(change, manager, places, ran_before=ran_before)
    if gateway:
        _report_gateway(change, manager, places, gateway, program)
    if launchers:
        _make_fast(change, program, dry_run=dry_run)
    if wants_folder:
        change.pointers = shell_folder.pointers(places)
    return change


def _talk(actions: Sequence[FileAction], manager: Systemctl) -> Talk:
    """Return the commands for the manager around these actions."""
    changed = [each.piece for each in actions if each.step in (FileStep.WRITE, FileStep.REMOVE)]
    talk = Talk(then=reloads(changed, manager), again=reloads(changed, manager))
    enabled = manager.enabled(*ENABLED)
    if enabled != set(ENABLED) or not manager.runs(TIMER):
        talk.then.append(ManagerCommand(manager.argv("enable", "--quiet", *ENABLED)))
        talk.then.append(ManagerCommand(manager.argv("start", TIMER)))
        if not enabled:
            talk.back.append(ManagerCommand(manager.argv("disable", "--now", "--quiet", *ENABLED)))
    if _has_scopes() and not manager.runs(KEEPER):
        # the next scope would start it, and what runs already may lose its owner before
        talk.then.append(ManagerCommand(manager.argv("start", "--no-block", KEEPER)))
    return talk


def _has_scopes() -> bool:
    """Return whether anything of this user's runs in a scope."""
    try:
        return any(scope.lives for scope in Reader(mount_point()).snapshot(uid=os.getuid()).scopes)
    except LookupError:  # no cgroup2
        return False


def refuse_writable(program: str) -> None:
    """Raise RefusedError if others than root can change what root's services execute."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for path in (program, sys.executable, package):
        whole = os.path.realpath(path)
        while True:
            status = os.stat(whole)
            # a system group, as Debian's staff for /usr/local, is trusted
            mask = 0o022 if status.st_gid >= _FIRST_USER else 0o002
            loose = status.st_mode & mask and not status.st_mode & stat.S_ISVTX
            if status.st_uid != 0 or loose:
                who = _name(status.st_uid) if status.st_uid else "others than root"
                raise RefusedError(
                    f"{who} can change {whole}, and a service of root would execute it",
                    "install scopekeeper where only root can write",
                )
            if whole == "/":
                break
            whole = os.path.dirname(whole)


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _remarks(change: Applied, manager: Systemctl, places: Locations, *, ran_before: bool) -> None:
    option = " --user" if places.manager == "user" else ""
    unit = f"{places.units}/{KEEPER}"
    if (
        unit in change.written
        and ran_before
        and manager.property(KEEPER, "FragmentPath") == unit
        and manager.runs(KEEPER)
    ):
        change.warnings.append(
            "the keeper runs with its former unit; nothing is lost by: "
            f"systemctl{option} try-restart {KEEPER}"
        )
    if manager.runs(KEEPER) and manager.property(KEEPER, "Transient") == "True":
        change.warnings.append(
            "a keeper that was not installed still runs; it ends after the runs that it holds, if "
            "any, and the installed one takes over. Sooner, which ends these runs: "
            f"systemctl{option} stop {KEEPER}"
        )
    if places.manager == "user" and not lingering.lingers(os.getuid()):
        change.warnings.append(
            "all of it ends at this user's last logout; to have it stay: "
            f"{lingering.remedy(os.getuid())}"
        )


def _report_gateway(
    change: Applied, manager: Systemctl, places: Locations, unit: str, program: str
) -> None:
    option = " --user" if places.manager == "user" else ""
    gateway = gateway_report.look_at(manager, unit)
    if places.drop_in(unit) in change.written:
        change.then = gateway_report.outcome(unit, option)
    lacks = gateway_report.missing(gateway, program, option)
    if lacks:
        change.warnings.append(lacks)
    if not gateway.goes_through_us:  # else all that it runs is in a scope
        mode = manager.property_of_service(unit, "KillMode")
        change.warnings += leaves_behind(unit, mode, places.units, option)


def _make_fast(change: Applied, program: str, *, dry_run: bool) -> None:
    """Replace pip's launcher by the fast one."""
    script = pip_scripts.slow(program)
    if script is None:
        return
    problem = "" if dry_run else pip_scripts.make_fast(script)
    if problem:
        change.warnings.append(f"{script} stays as pip wrote it: {problem}")
    else:
        change.written.append(str(script))
