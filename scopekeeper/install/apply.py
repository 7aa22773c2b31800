"""Carries a plan out: the files, then the manager; rolls both back if anything fails."""

import contextlib
import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from scopekeeper import unfinished_files
from scopekeeper.errors import ConfigError, ManagerError, ScopekeeperError
from scopekeeper.install import files
from scopekeeper.install.locations import Piece
from scopekeeper.install.plan import FileAction, FileStep
from scopekeeper.systemd.systemctl import Systemctl


@dataclass(frozen=True, slots=True)
class ManagerCommand:
    """A command for the manager or the bus."""

    argv: list[str]
    is_needed: bool = True
    """Whether its failure is an error; otherwise it is a warning."""


@dataclass(slots=True)
class Applied:
    """What was done, or would be done without --dry-run."""

    written: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    documents: list[str] = field(default_factory=list)
    """The manual pages and completions among them."""
    provided: list[str] = field(default_factory=list)
    """Files of a distribution that need no copy."""
    ran: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    then: str = ""
    """What the operator has to do next."""
    pointers: list[tuple[str, str]] = field(default_factory=list)
    """Clients, and what makes each use the folder of ``bash``."""

    @property
    def is_nothing(self) -> bool:
        """Whether nothing had to be done."""
        return not (self.written or self.removed or self.ran)


def look(path: str) -> bytes | None:
    """Return the content of a path, None if it does not exist; raises ConfigError."""
    with reported(path):
        return files.read(path)


@contextlib.contextmanager
def reported(path: str) -> Iterator[None]:
    """Turn an OSError into a ConfigError that names the file."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{error.filename or path}: {error.strerror}") from None


def plan_of(actions: Sequence[FileAction], change: Applied) -> None:
    """Note in change what a plan does."""
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
    """Commands for the manager and the bus around the files, and those that undo them."""

    first: list[ManagerCommand] = field(default_factory=list)
    """Before any file is touched."""
    then: list[ManagerCommand] = field(default_factory=list)
    """After all files are written and removed."""
    back: list[ManagerCommand] = field(default_factory=list)
    """After a failure, before the files are restored."""
    again: list[ManagerCommand] = field(default_factory=list)
    """After a failure, once the files are restored."""


def carry_out(
    actions: Sequence[FileAction], talk: Talk, manager: Systemctl, change: Applied
) -> None:
    """Carry a plan out; raises ScopekeeperError after everything is restored."""
    with contextlib.ExitStack() as backwards:
        backwards.callback(_try_all, talk.again, manager)
        _tell_all(talk.first, manager, change)
        write(actions, backwards)
        backwards.callback(_try_all, talk.back, manager)
        _tell_all(talk.then, manager, change)
        backwards.pop_all()
    prune(actions)


def write(actions: Sequence[FileAction], backwards: contextlib.ExitStack) -> None:
    """Write and remove the files of a plan; push what undoes each step on backwards.

    What an earlier one has left that was killed goes, too. Raises ConfigError.
    """
    for folder in {os.path.dirname(action.path) for action in actions}:
        unfinished_files.beside(f"{folder}/")
    for action in actions:
        with reported(action.path):
            if action.step is FileStep.WRITE:
                target = action.piece.target
                undo = (
                    files.link(action.path, target)
                    if target
                    else files.put(action.path, action.content)
                )
                backwards.callback(undo)
            elif action.step is FileStep.REMOVE:
                backwards.callback(files.take(action.path))


def prune(actions: Sequence[FileAction]) -> None:
    """Remove the folders that a plan left empty."""
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
    """Try to run commands; the error that led here is the one to report."""
    for command in commands:
        with contextlib.suppress(ScopekeeperError):
            manager.do(command.argv)


def reloads(changed: Sequence[Piece], manager: Systemctl) -> list[ManagerCommand]:
    """Return the commands that make the manager and the bus read these files again."""
    commands = []
    if any(each.is_unit for each in changed):
        commands.append(ManagerCommand(manager.argv("daemon-reload")))
    if any(each.on_the_bus for each in changed):
        commands.append(
            ManagerCommand(manager.reload_bus(), is_needed=False)
        )  # there may be no bus
    return commands


def spelled(talk: Talk) -> list[str]:
    """Return the commands as typed in a shell."""
    return [shlex.join(command.argv) for command in (*talk.first, *talk.then)]
