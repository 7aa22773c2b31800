"""``scopekeeper uninstall``: removes what install wrote; running scopes stay.

Gateways keep their scopes, and ``scopekeeper reconcile`` still cleans up when called. uninstall
stops the keeper, unless it holds terminals: without the unit file, systemd would neither restart it
nor keep the terminals for it. Then uninstall is refused; with ``force`` the keeper keeps running
and exits once it holds nothing.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from scopekeeper.errors import ConflictError, StateError
from scopekeeper.exec.run import Run, load_all
from scopekeeper.install import plan, shell_folder, shipped
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
from scopekeeper.install.gateway_drop_in import check_gateway, existing_drop_ins, piece_of
from scopekeeper.install.install import pieces_for
from scopekeeper.install.locations import Locations
from scopekeeper.install.origin import Origin, origin
from scopekeeper.install.plan import FileAction, FileStep
from scopekeeper.install.shipped import ENABLED, TEMPLATE
from scopekeeper.kernel import cgroupfs
from scopekeeper.kernel.proc import runs
from scopekeeper.mcp_configs.servers import PROGRAM
from scopekeeper.scope.placement import Caller, managed
from scopekeeper.systemd.systemctl import Systemctl
from scopekeeper.systemd.units import KEEPER, SLICE


@dataclass(frozen=True, slots=True)
class Part:
    """What one call of install added, for an uninstall that removes nothing else."""

    paths: frozenset[str]
    """The files that it wrote where there was none."""
    folders: frozenset[str]
    """The folders that it made."""
    enabled: Sequence[str] = ()
    """The units that it enabled."""

    def of(self, actions: Sequence[FileAction]) -> list[FileAction]:
        """Return the actions on its files, which remove none but its folders."""
        return [
            replace(each, piece=replace(each.piece, base=self._base(each.path)))
            for each in actions
            if each.path in self.paths
        ]

    def _base(self, path: str) -> str:
        """Return the folder above a file that was there before."""
        folder = os.path.dirname(path)
        while folder in self.folders:
            folder = os.path.dirname(folder)
        return folder


def uninstall(
    manager: Systemctl,
    places: Locations,
    documents: Mapping[str, str],
    gateway: str = "",
    *,
    force: bool = False,
    dry_run: bool = False,
    only: Part | None = None,
) -> Applied:
    """Uninstall; raises ScopekeeperError and then leaves everything unchanged.

    gateway is a unit: only its drop-in is removed. '' removes everything, or only a part.
    """
    change, talk = Applied(), Talk()
    actions = _drop_ins(places, gateway)
    if gateway and only is None and not os.path.lexists(places.drop_in(gateway)):
        check_gateway(manager, places, gateway)
    if not gateway:
        actions = plan.uninstall(pieces_for(places, PROGRAM, documents), look) + actions
        actions += shell_folder.uninstall(places)
    if only is not None:
        actions = only.of(actions)
    if not gateway:
        units = ENABLED if only is None else only.enabled
        _turn_off(manager, actions, talk, change, units, force=force)
        _stop_slice(manager, talk, change)
    plan_of(actions, change)
    removed = [each.piece for each in actions if each.step is FileStep.REMOVE]
    talk.then = reloads(removed, manager)
    talk.again = [*talk.then, *talk.again]
    change.ran = spelled(talk)
    if not dry_run:
        carry_out(actions, talk, manager, change)
    return change


def _turn_off(
    manager: Systemctl,
    actions: list[FileAction],
    talk: Talk,
    change: Applied,
    units: Sequence[str],
    *,
    force: bool,
) -> None:
    """Add the commands to run before anything is removed; raises ConflictError."""
    going = {each.piece.name for each in actions if each.step is FileStep.REMOVE}
    held = [f"the run {run.id} of {run.session}" for run in _held()] if KEEPER in going else []
    instances = manager.instances(TEMPLATE) if TEMPLATE in going else []
    if (held or instances) and not force:
        raise ConflictError(
            "still there: " + ", ".join([*held, *instances]),
            "stop them first, or leave them behind as they are with --force",
        )
    if enabled := sorted(manager.enabled(*units)):
        talk.first.append(ManagerCommand(manager.argv("disable", "--now", "--quiet", *enabled)))
        talk.again.append(ManagerCommand(manager.argv("enable", "--now", "--quiet", *enabled)))
    if held:
        change.warnings.append(
            "the keeper goes on until what it holds has ended; should it be killed, the terminals "
            "of these hang up: " + ", ".join(held)
        )
    elif KEEPER in going and manager.runs(KEEPER):
        talk.first.append(ManagerCommand(manager.argv("stop", KEEPER)))
    if instances:
        talk.first.append(ManagerCommand(manager.argv("disable", "--quiet", TEMPLATE)))
        change.warnings.append("these go on until they end: " + ", ".join(instances))


def _stop_slice(manager: Systemctl, talk: Talk, change: Applied) -> None:
    """Have the slice stopped if nothing runs in it; it would stay loaded, without its file."""
    if not manager.runs(SLICE):
        return
    try:
        directory = managed(Caller(), manager.kind).base
    except LookupError:  # no cgroup2
        return
    if cgroupfs.is_populated(directory):
        change.warnings.append(
            f"the running {SLICE} stays, with what runs in it; once that has ended: "
            "scopekeeper uninstall"
        )
        return
    # a scope that begins in between keeps running: the job mode leaves out what needs the slice
    # (seen with 252 and 257)
    alone = ("stop", "--job-mode=ignore-requirements", SLICE)
    talk.first.append(ManagerCommand(manager.argv(*alone), is_needed=False))


def _held() -> list[Run]:
    """Return the runs whose terminals a keeper holds, or systemd stores for the next one."""
    try:
        known = load_all()
    except StateError:
        return []
    return [run for run in known if run.ended is None and _lives(run)]


def _lives(run: Run) -> bool:
    try:
        return run.pid is not None and runs(run.pid, run.start_time or 0)
    except OSError:
        return False


def _drop_ins(places: Locations, gateway: str) -> list[FileAction]:
    """Return the actions for our drop-ins of gateways."""
    pieces = []
    for unit, path in existing_drop_ins(places):
        named = unit == gateway
        if named or (not gateway and origin(look(path) or b"") is not Origin.FOREIGN):
            text = shipped.read(f"gateway.service.d/{shipped.DROP_IN}")
            pieces.append(piece_of(places, unit, text))
    return plan.uninstall(pieces, look)
