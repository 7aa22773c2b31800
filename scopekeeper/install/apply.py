"""Carries a plan out: all files, then the manager, and back again where anything fails."""

import contextlib
import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from scopekeeper.errors import ConfigError, ManagerError, ScopekeeperError
from scopekeeper.install import files
from scopekeeper.install.locations import Piece
from scopekeeper.install.plan import FileAction, FileStep
from scopekeeper.systemd.systemctl import Systemctl


@dataclass(frozen=True, slots=True)
class ManagerCommand:
    """What the manager or the bus is told."""

    argv: list[str]
    is_needed: bool = True
    """Whether nothing holds without it; else its failure is a warning."""


@dataclass(slots=True)
class Applied:
    """What was done, or with a dry run would be."""

    written: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    documents: list[str] = field(default_factory=list)
    """Those of them that are manual pages and completions."""
    provided: list[str] = field(default_factory=list)
    """Where a distribution has what was not written again."""
    ran: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    then: str = ""
    """What is left to the operator."""

    @property
    def is_nothing(self) -> bool:
        """Whether all was as it should be."""
        return not (self.written or self.removed or self.ran)


def look(path: str) -> bytes | None:
    """Return what is at a path; raises ConfigError."""
    with reported(path):
        return files.read(path)


@contextlib.contextmanager
def reported(path: str) -> Iterator[None]:
    """Say which file it was."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{error.filename or path}: {error.strerror}") from None


def plan_of(actions: Sequence[FileAction], change: Applied) -> None:
    """Write down what a plan comes to."""
    for action in actions:
        if action.piece.is_document and action.step in (FileStep.WRITE, FileStep.REMOVE):
            change.documents.append(action.path)
        if action.step is FileStep.WRITE:
            change.written.append(action.path)
        elif action.step is FileStep.REMOVE:
            change.removed.append(action.path)
        elif action.step is FileStep.KEEP:
            change.warnings.append(f"{action.path}: kept: {action.why}")
        elif action.why:
            change.provided.append(action.why.removesuffix(" has it"))


@dataclass(slots=True)
class Talk:
    """What the manager and the bus are told around the files, and what takes that back."""

    first: list[ManagerCommand] = field(default_factory=list)
    """Before any file is touched."""
    then: list[ManagerCommand] = field(default_factory=list)
    """Once all are in their places."""
    back: list[ManagerCommand] = field(default_factory=list)
    """Where something fails, before the files are put back."""
    again: list[ManagerCommand] = field(default_factory=list)
    """After that."""


def carry_out(
    actions: Sequence[FileAction], talk: Talk, manager: Systemctl, change: Applied
) -> None:
    """Do it; raises ScopekeeperError, and then everything is as it was."""
    with contextlib.ExitStack() as backwards:
        backwards.callback(_try_all, talk.again, manager)
        _tell_all(talk.first, manager, change)
        write(actions, backwards)
        backwards.callback(_try_all, talk.back, manager)
        _tell_all(talk.then, manager, change)
        backwards.pop_all()
    prune(actions)


def write(actions: Sequence[FileAction], backwards: contextlib.ExitStack) -> None:
    """Write and remove the files of a plan, and leave with backwards what undoes it.

    Raises ConfigError.
    """
    for action in actions:
        with reported(action.path):
            if action.step is FileStep.WRITE:
                backwards.callback(files.put(action.path, action.content))
            elif action.step is FileStep.REMOVE:
                backwards.callback(files.take(action.path))


def prune(actions: Sequence[FileAction]) -> None:
    """Remove the folders in which a plan has left nothing."""
    for action in actions:
        if action.step is FileStep.REMOVE:
            files.prune(os.path.dirname(action.path), action.piece.base)


def _tell_all(commands: Sequence[ManagerCommand], manager: Systemctl, change: Applied) -> None:
    for command in commands:
        try:
            manager.do(command.argv)
        except ManagerError as error:
            if command.is_needed:
                raise
            change.warnings.append(str(error))


def _try_all(commands: Sequence[ManagerCommand], manager: Systemctl) -> None:
    """Try to; what has failed before is what has to be told."""
    for command in commands:
        with contextlib.suppress(ScopekeeperError):
            manager.do(command.argv)


def reloads(changed: Sequence[Piece], manager: Systemctl) -> list[ManagerCommand]:
    """Return what has the manager, and the bus, read these files again."""
    commands = []
    if any(each.is_unit for each in changed):
        commands.append(ManagerCommand(manager.argv("daemon-reload")))
    if any(each.on_the_bus for each in changed):
        commands.append(
            ManagerCommand(manager.reload_bus(), is_needed=False)
        )  # there may be no bus
    return commands


def spelled(talk: Talk) -> list[str]:
    """Return the commands as they would be typed."""
    return [shlex.join(command.argv) for command in (*talk.first, *talk.then)]
