"""The step that registers hooks in the settings of MCP clients, as ``wrap --hooks`` does."""

import os

from scopekeeper.errors import ConfigError
from scopekeeper.mcp_configs import backups, formats, hook_changes
from scopekeeper.mcp_configs.hook_changes import ChangedFile, looked_at
from scopekeeper.mcp_configs.hook_files import HookFile, hook_files, update_command
from scopekeeper.mcp_configs.hooks import HookState
from scopekeeper.setup import restarts
from scopekeeper.setup.step import Facts, Found, Machine, Need, Outcome, gone
from scopekeeper.setup.writable import why_not, why_not_replaced

_WHY = "A hook ends what a session has left right after its end."
_DOES_NOTHING = (HookState.NO_LAUNCHER, HookState.SWITCHED_OFF)


class ClientHooks:
    """Registers the hooks of every client that has some, a change for each file."""

    name = "hooks"

    def find(self, machine: Machine) -> list[Found]:
        """Return a finding for each client of this user that has hooks."""
        files = looked_at(hook_files(machine.environment))
        # the step of the servers names a file of theirs that cannot be read
        named = {path for path, _ in formats.found(machine.environment)}
        return [
            self._of(machine, each)
            for each in files
            if not (each.problem and each.file.path in named)
        ]

    def _of(self, machine: Machine, each: ChangedFile) -> Found:
        path, title = each.file.path, f"{each.file.client.title} hooks"
        command = f"scopekeeper wrap --hooks --client {each.file.client.name}"
        if each.problem:
            problem = each.problem.removeprefix(f"{path}: ")
            return Found(self.name, title, Need.HAND, problem, command=command, target=path)
        dead = next((one for one in each.outcomes if one.state in _DOES_NOTHING), None)
        if dead is not None:
            mends = update_command(each.file) if dead.state is HookState.NO_LAUNCHER else ""
            detail = f"{dead.event} does nothing: {dead.detail}"
            return Found(self.name, title, Need.HAND, detail,
                         command=mends or f"edit {path}", target=path)  # fmt: skip
        new = [one for one in each.outcomes if one.state is HookState.NOT_REGISTERED]
        if not new:
            return Found(self.name, title, Need.NOTHING, "registered", target=path)
        if each.is_ours:
            detail = f"{new[0].event} is not registered"
            return Found(self.name, title, Need.HAND, detail, command=command, target=path)
        refused = _registered(machine, each.file, write=False).problem or _read_only(each.file)
        if refused:
            return Found(self.name, title, Need.HAND, refused.removeprefix(f"{path}: "),
                         command=command, target=path)  # fmt: skip
        return Found(
            self.name, title, Need.CHANGE, "not registered",
            will="add a hook", where=machine.short(path), why=_WHY,
            command=command, target=path,
            facts={"client": [each.file.client.name]},
        )  # fmt: skip

    def do(self, machine: Machine, found: Found) -> Outcome:
        """Register the hooks of a file."""
        file = _file_of(machine, found.target, found.facts)
        made = _registered(machine, file, write=True)
        _refuse(made)
        verb = "made, with" if made.made else "has"
        line = f"{machine.short(file.path)}: {verb} the hook of a session's end"
        if made.backup and made.backup != os.path.realpath(file.path) + backups.SUFFIX:
            line += f"; backup: {made.backup}"
        done = Outcome([line], has_backup=bool(made.backup))
        if file.kind.note:
            done.lines.append(file.kind.note)
        done.restart += restarts.of_clients([file.client.name])
        return done

    def undo(self, machine: Machine, target: str, facts: Facts, *, dry_run: bool) -> Outcome:
        """Remove the hooks that ``do`` registered, and a file that it made."""
        file, undone = _file_of(machine, target, facts), Outcome()
        short = machine.short(target)
        if not file.exists:
            command = f"scopekeeper unwrap --hooks --client {file.client.name}"
            undone.left.append(gone(short, command))
            return undone
        # unregistered skips what has none of its words, as half a file may have
        (made,) = hook_changes.unregistered([file], write=not dry_run) or looked_at([file])
        _refuse(made)
        if made.removed:
            undone.lines.append(f"{short}: removed")
        elif made.changed or made.diff:
            undone.lines.append(f"{short}: its hook is removed")
            undone.restart += restarts.of_clients([file.client.name])
        else:
            undone.left.append(f"{short}: no hook of scopekeeper is in it by now")
        return undone


def _file_of(machine: Machine, path: str, facts: Facts) -> HookFile:
    """Return the file of hooks that a record names; raises ConfigError."""
    (client,) = facts["client"]
    for each in hook_files(machine.environment, client):
        if each.path == path:
            return each
    raise ConfigError(
        f"{path}: it is not the file of {client} by now", "scopekeeper unwrap --hooks"
    )


def _registered(machine: Machine, file: HookFile, *, write: bool) -> ChangedFile:
    program = machine.launcher()[0]
    (made,) = hook_changes.registered([file], program, update=False, write=write)
    return made


def _read_only(file: HookFile) -> str:
    """Return why a file cannot be written; '' if it can."""
    return why_not_replaced(file.path)[0] if file.exists else why_not([file.path])


def _refuse(made: ChangedFile) -> None:
    if made.problem:
        raise ConfigError(made.problem)
