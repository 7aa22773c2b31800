"""The step that has systemd start the keeper, as ``install`` does."""

import os
from collections.abc import Iterable

from scopekeeper.doctor import parts
from scopekeeper.doctor.finding import Status
from scopekeeper.errors import ConflictError
from scopekeeper.install.install import install
from scopekeeper.install.shipped import ENABLED
from scopekeeper.install.uninstall import Part, uninstall
from scopekeeper.scope import choose_placement
from scopekeeper.scope.placement import Caller
from scopekeeper.setup.step import Facts, Found, Machine, Need, Outcome
from scopekeeper.setup.writable import why_not

_WHY = "The keeper cleans up at once."
_COMMAND = "scopekeeper install"
_STOP = "stop them first, or leave them behind as they are with `scopekeeper uninstall --force`"
_OFF = "keeper: no file had to be removed"


class KeeperUnits:
    """Installs the units for this user's manager."""

    name = "keeper"

    def find(self, machine: Machine) -> list[Found]:
        """Return one finding: whether a keeper runs, or starts by itself."""
        state = parts.keeper(choose_placement.find(Caller()))
        if not machine.has_systemd() or "masked" in state.detail:
            need = Need.HAND if state.status is Status.NOTE else Need.NOTHING
            return [Found(self.name, "keeper", need, state.detail, command=state.fix)]
        change = install(
            machine.systemctl(), machine.places(), machine.launcher()[1], machine.documents(),
            dry_run=True, launchers=False,
        )  # fmt: skip
        if change.is_nothing:
            return [Found(self.name, "keeper", Need.NOTHING, state.detail)]
        if refused := why_not(change.written):
            detail = f"{state.detail}; its units cannot be written: {refused}"
            return [Found(self.name, "keeper", Need.HAND, detail, command=_COMMAND)]
        will = "install its units" if change.written else "enable and start its units"
        new = [path for path in change.written if not os.path.lexists(path)]
        enabled = machine.systemctl().enabled(*ENABLED)
        return [
            Found(
                self.name, "keeper", Need.CHANGE, state.detail, will=will,
                where=machine.short(machine.places().units), why=_WHY,
                command=_COMMAND, target=machine.places().units,
                facts={
                    "paths": new,
                    "folders": missing_folders(new),
                    "enabled": [each for each in ENABLED if each not in enabled],
                },
            )
        ]  # fmt: skip

    def do(self, machine: Machine, _found: Found) -> Outcome:
        """Write, enable and start the units."""
        change = install(
            machine.systemctl(), machine.places(), machine.launcher()[1], machine.documents(),
            launchers=False,
        )  # fmt: skip
        files = len(change.written)
        written = f"{_counted(files)} written, " if files else ""
        done = Outcome([f"keeper: {written}its timer runs; systemd starts it with the next scope"])
        done.warnings += [each for each in change.warnings if "enable-linger" not in each]
        return done

    def undo(self, machine: Machine, _target: str, facts: Facts, *, dry_run: bool) -> Outcome:
        """Remove the files that ``do`` added, and stop what it started."""
        part = Part(
            frozenset(facts["paths"]), frozenset(facts["folders"]),
            [each for each in ENABLED if each in facts["enabled"]],
        )  # fmt: skip
        try:
            change = uninstall(
                machine.systemctl(), machine.places(), machine.documents(), only=part,
                dry_run=dry_run,
            )  # fmt: skip
        except ConflictError as error:
            raise ConflictError(error.message, _STOP) from None
        files = len(change.removed)
        undone = Outcome([f"keeper: {_counted(files)} removed" if files else _OFF])
        undone.left += change.warnings
        return undone


def _counted(files: int) -> str:
    return f"{files} file{'' if files == 1 else 's'}"


def missing_folders(paths: Iterable[str]) -> list[str]:
    """Return the folders of files that do not exist."""
    found = set()
    for path in paths:
        folder = os.path.dirname(path)
        while not os.path.isdir(folder):
            found.add(folder)
            folder = os.path.dirname(folder)
    return sorted(found)
