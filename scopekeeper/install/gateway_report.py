"""What ``install --gateway`` reports: when the drop-in takes effect, and what is not contained.

ExecStart= and the running processes show that. A gateway that does not run may start its servers
either way, and the report then leaves it open.
"""

import os
from dataclasses import dataclass

from scopekeeper.errors import ScopekeeperError
from scopekeeper.install.shipped import quoted
from scopekeeper.kernel import cgroupfs
from scopekeeper.kernel.proc import mount_point
from scopekeeper.scope.model import Liveness, Member
from scopekeeper.scope.selection import is_owner
from scopekeeper.scope.snapshot import Reader
from scopekeeper.systemd.systemctl import Systemctl
from scopekeeper.systemd.units import manager_uid

_PROGRAM = "scopekeeper"


@dataclass(frozen=True, slots=True)
class Gateway:
    """What is known of a gateway: its commands, and where its processes are now."""

    unit: str
    commands: tuple[tuple[str, ...], ...] = ()
    """Of ExecStart=, each with its path first; empty if they are unknown."""
    runs: bool = False
    contained: int = 0
    """Members that it owns now."""
    outside: int = 0
    """Processes beside its main one that are in its cgroup and in no scope."""

    @property
    def goes_through_us(self) -> bool:
        """Whether systemd itself starts the gateway in a scope."""
        return bool(self.commands) and all(
            os.path.basename(path) == _PROGRAM and words[:1] == ["run"]
            for path, *words in self.commands
        )


def look_at(manager: Systemctl, unit: str) -> Gateway:
    """Return what systemd and cgroupfs show of a gateway; of a template, nothing."""
    if "@." in unit:
        return Gateway(unit)
    try:
        commands = manager.exec_start(unit)
        main = int(manager.property_of_service(unit, "MainPID") or 0)
        cgroup = manager.property_of_service(unit, "ControlGroup")
    except ScopekeeperError:
        return Gateway(unit)
    if not main:
        return Gateway(unit, commands)
    mount = mount_point()
    uid = None if manager.kind == "system" else os.getuid()
    scopes = Reader(mount).snapshot(uid=uid).scopes
    members = [member for scope in scopes for member in scope.living_members]
    by_manager = "" if uid is None else str(uid)
    owned = [each for each in members if _owns(unit, by_manager, each)]
    inside = {pid for each in members for pid in each.pids}
    found = cgroupfs.processes_by_cgroup(mount + cgroup) if cgroup else {}
    outside = {pid for pids in found.values() for pid in pids} - inside - {main}
    return Gateway(unit, commands, True, len(owned), len(outside))


def _owns(unit: str, by_manager: str, member: Member) -> bool:
    """Return whether the living unit of this manager is the owner of a member, or runs its owner.

    by_manager is the uid of the manager, '' for the system's.
    """
    state = member.owner_state
    if state is None or state.liveness is not Liveness.ALIVE or not is_owner(state.owner, unit):
        return False
    return manager_uid(state.owner.cgroup or state.owner.outer_cgroup) == by_manager


def outcome(unit: str, option: str) -> str:
    """Return from when on the drop-in has an effect. Pure.

    option is that of systemctl for the unit's manager.
    """
    return (
        f"{unit}: from its next start on, its scopes end with it (not shell commands that ignore a "
        f"hangup): systemctl{option} restart {unit}"
    )


def missing(gateway: Gateway, program: str, option: str) -> str:
    """Return what of a gateway is not contained, and how to contain it; '' if nothing. Pure.

    program is our own absolute path, option that of systemctl for the unit's manager.
    """
    if gateway.goes_through_us or (gateway.contained and not gateway.outside):
        return ""
    unit, what = gateway.unit, "what it starts without scopekeeper is"
    if gateway.outside:
        what = "1 process is" if gateway.outside == 1 else f"{gateway.outside} processes are"
    start = f"ExecStart={quoted(program)} run -n gateway -- COMMAND"
    edit = f"systemctl{option} edit --full {unit}"
    return f"{unit}: {what} in no scope; to contain it all: {edit}, with Delegate=yes and {start}"
