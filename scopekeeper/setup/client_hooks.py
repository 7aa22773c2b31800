"""The step that registers hooks in the settings of MCP clients, as ``wrap --hooks`` does."""

import os

from scopekeeper.errors import ConfigError
from scopekeeper.mcp_configs import backups, files, formats, hook_changes
from scopekeeper.mcp_configs.document import ParseError
from scopekeeper.mcp_configs.hook_changes import ChangedFile, looked_at
from scopekeeper.mcp_configs.hook_files import HookFile, hook_files, update_command
from scopekeeper.mcp_configs.hooks import HookState, unregister
from scopekeeper.mcp_configs.wrap import Selection, look
from scopekeeper.setup import restarts, shell_commands, unreadable
from scopekeeper.setup.before import drop_backup, edited, facts_of, is_edited, sum_of
from scopekeeper.setup.step import Facts, Found, Machine, Need, Outcome, gone
from scopekeeper.setup.writable import why_not, why_not_replaced

_WHY = "A hook ends what a session has left right after its end."
_DOES_NOTHING = (HookState.NO_LAUNCHER, HookState.SWITCHED_OFF)


class ClientHooks:
    """Registers the hooks of every client that has some, a change for each file."""

    name = "hooks"

    def find(self, machine: Machine) -> list[Found]:
        """Return a finding for each client of this user that has hooks."""
        return [
            self._of(machine, each)
            for each in looked_at(hook_files(machine.environment))
            if not (each.problem and _is_named_by_servers(machine, each.file.path))
        ]

    def _of(self, machine: Machine, each: ChangedFile) -> Found:
        path, title = each.file.path, f"{each.file.client.title} hooks"
        command = f"scopekeeper wrap --hooks --client {each.file.client.name}"
        if each.problem:
            return Found(self.name, title, Need.HAND,
                         unreadable.named(machine, path, each.problem),
                         command=unreadable.corrected(path, command), target=path)  # fmt: skip
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
        if problem := _registered(machine, each.file, write=False).problem:
            return Found(self.name, title, Need.HAND, unreadable.named(machine, path, problem),
                         command=unreadable.corrected(path, command), target=path)  # fmt: skip
        refused, remedy = _read_only(machine, each.file)
        if refused:
            return Found(self.name, title, Need.HAND, refused, target=path,
                         command=remedy or f"make it writable, then: {command}")  # fmt: skip
        return Found(
            self.name, title, Need.CHANGE, "not registered",
            will=f"add {_counted(len(new))}", where=machine.short(path), why=_WHY,
            command=command, target=path,
            facts={"client": [each.file.client.name]},
            late_facts=lambda: facts_of(path),
        )  # fmt: skip

    def do(self, machine: Machine, found: Found) -> Outcome:
        """Register the hooks of a file."""
        file = _file_of(machine, found.target, found.facts)
        made = _registered(machine, file, write=True)
        _refuse(made)
        new = [each.event for each in made.outcomes if each.changed]
        line = f"{machine.short(file.path)}: {'made, with ' if made.made else ''}"
        line += f"{_counted(len(new))}{'' if made.made else ' added'} ({', '.join(new)})"
        is_beside = made.backup == os.path.realpath(file.path) + backups.SUFFIX
        if made.backup and not is_beside:
            line += f"; backup: {made.backup}"
        done = Outcome([line], has_backup=is_beside)
        if file.kind.note:
            done.lines.append(file.kind.note)
        done.restart += restarts.of_clients([file.client.name])
        return done

    def undo(self, machine: Machine, target: str, facts: Facts, *, dry_run: bool) -> Outcome:
        """Remove the hooks that ``do`` registered, and a file that it made."""
        file, undone = _file_of(machine, target, facts), Outcome()
        short = machine.short(target)
        if not dry_run:
            files.remove_unfinished(target)
        if not file.exists:
            command = f"scopekeeper unwrap --hooks --client {file.client.name}"
            undone.left.append(gone(short, command))
            return undone
        # unregistered skips what has none of its words, as half a file may have
        (made,) = hook_changes.unregistered([file], write=not dry_run) or looked_at([file])
        _refuse(made)
        if made.rewrite is None or not (made.changed or made.diff):
            undone.left.append(f"{short}: no hook of scopekeeper is in it by now")
            if not dry_run:
                drop_backup(target, facts)
            return undone
        after = _without_all(file) if dry_run else made.rewrite.text
        is_made = facts.get("before") == [""]
        if made.removed or (dry_run and hook_changes.would_go(file, after, is_made=is_made)):
            undone.lines.append(f"{short}: removed")
        else:
            hooks = "hooks are" if len(made.rewrite.outcomes) > 1 else "hook is"
            undone.lines.append(f"{short}: its {hooks} removed")
            undone.left += edited(short) if is_edited(facts, sum_of(after)) else []
        undone.restart += restarts.of_clients([file.client.name], restarts.since(facts))
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


def _without_all(file: HookFile) -> str:
    """Return the text that an undo leaves; a dry run has not removed the line of the shell yet."""
    text = shell_commands.without_line(file.path, files.read(file.path).text())
    return unregister(text, file.kind).text


def _read_only(machine: Machine, file: HookFile) -> tuple[str, str]:
    """Return why a file cannot be written, and what to do then; '' if it can."""
    if not file.exists:
        return machine.short(why_not([file.path])), ""
    reason, remedy = why_not_replaced(file.path)
    return (f"{machine.short(file.path)} {reason}" if reason else ""), remedy


def _is_named_by_servers(machine: Machine, path: str) -> bool:
    """Return whether the step of the servers reports that it cannot read a file."""
    kind = dict(formats.found(machine.environment)).get(path)
    if kind is None:
        return False
    try:
        look(files.read(path).text(), kind, Selection())
    except (ParseError, ConfigError):
        return True
    return False


def _counted(number: int) -> str:
    return f"{number} hook{'' if number == 1 else 's'}"


def _refuse(made: ChangedFile) -> None:
    if made.problem:
        raise ConfigError(made.problem)
