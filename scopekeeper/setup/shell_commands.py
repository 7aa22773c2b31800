"""The step for Claude Code's shell commands: one line in its settings, with ``--shell-commands``.

Not without that option: with the line and without the program, Claude Code starts no command. So
the line is written only with a program that stays, and never over a value of its user.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace

from scopekeeper.errors import ConfigError, StateError
from scopekeeper.launch.shell_prefix import NAME
from scopekeeper.mcp_configs import backups, files, hook_files, shell_line
from scopekeeper.mcp_configs.document import ParseError
from scopekeeper.mcp_configs.hook_files import HookFile
from scopekeeper.mcp_configs.launcher_settings import settings
from scopekeeper.mcp_configs.shell_line import VARIABLE
from scopekeeper.setup import clients_now, record, restarts, unreadable
from scopekeeper.setup.before import drop_backup, edited, facts_of, is_edited, sum_of
from scopekeeper.setup.step import Facts, Found, Machine, Need, Outcome, gone
from scopekeeper.setup.writable import why_not_replaced

_CLIENT = "claude-code"
_COMMAND = "scopekeeper setup --shell-commands"
_OUTSIDE = "its shell commands run in no scope"
_WHY = "The line puts Claude Code's shell commands into scopes, too."
_PASSING = ("/tmp/", "/var/tmp/", "/run/", "/dev/shm/")  # noqa: S108  nothing is written there
"""Folders in which no program stays."""


class ShellCommands:
    """Has Claude Code start its commands through ``scopekeeper-prefix``."""

    name = "shell"

    def find(self, machine: Machine) -> list[Found]:
        """Return a finding if this user has Claude Code."""
        (file,) = hook_files.hook_files(machine.environment, _CLIENT) or (None,)
        if file is None or not os.path.isdir(file.folder):
            return []
        path, title = file.path, file.client.title
        there = [each for each in settings(machine.environment) if each.path == path]
        for each in there:
            if each.is_missing:
                detail = f"there is no {each.program} ({each.variable}): it starts no command"
                return [Found(self.name, title, Need.HAND, detail, target=path,
                              command=f"edit {path}")]  # fmt: skip
        if there:
            return [*self._started_before(path, title)] or [
                Found(self.name, title, Need.NOTHING, "its shell commands too", target=path)
            ]
        return [self._not_there(machine, file)]

    def _started_before(self, path: str, title: str) -> Iterator[Found]:
        """Yield a finding for each process that read the settings before the line was in them."""
        for pid in clients_now.started_before(_CLIENT, _since(path)):
            yield Found(
                self.name, title, Need.HAND,
                f"pid {pid} started before: its shell commands run in no scope",
                command=restarts.start_again(pid), target=path,
            )  # fmt: skip

    def _not_there(self, machine: Machine, file: HookFile) -> Found:
        path, title = file.path, file.client.title
        hand = Need.HAND if machine.shell_commands else Need.ADVICE
        found = Found(self.name, title, hand, _OUTSIDE, command=_COMMAND, target=path)
        try:
            original = files.read(path) if file.exists else None
            text = original.text() if original else ""
            if text and shell_line.value(text) is not None:
                detail = f"{_OUTSIDE}: its settings have another {VARIABLE}, which stays"
                return replace(found, detail=detail, command=f"edit {path}")
            _edit(file, "")
            refused, remedy = why_not_replaced(path) if original else ("", "")
        except (ParseError, ConfigError) as error:
            detail = f"{_OUTSIDE}: {unreadable.reason(machine, path, error)}"
            return replace(found, detail=detail, command=unreadable.corrected(path, _COMMAND))
        if refused:
            detail = f"{_OUTSIDE}: {machine.short(path)} {refused}"
            command = remedy or f"make it writable, then: {_COMMAND}"
            return replace(found, detail=detail, command=command)
        try:
            program = _program(machine)
        except ConfigError as error:
            install = f"install scopekeeper, then: {_COMMAND}"
            return replace(found, detail=f"{_OUTSIDE}: {error.message}", command=install)
        if not machine.shell_commands:
            return found
        return Found(
            self.name, title, Need.CHANGE, _OUTSIDE, will="add a line",
            where=machine.short(path), why=_WHY, command=_COMMAND, target=path,
            facts={"program": [program]},
            late_facts=lambda: {**_edit(file, program), **facts_of(path)},
        )  # fmt: skip

    def do(self, machine: Machine, found: Found) -> Outcome:
        """Write the line."""
        file, (program,) = _file_of(machine.environment, found.target), found.facts["program"]
        is_beside = False
        if not file.exists:
            hook_files.make(file, shell_line.new_text(program))
            verb = "made, with"
        else:
            original = files.read(file.path)
            new = _added(file.path, original.text(), program)[0]
            again = b"scopekeeper" in original.raw  # the hook has kept what was before
            backup = files.replace(original, new.encode(), again=again)
            is_beside = backup == original.target + backups.SUFFIX
            verb = "has"
        line = f"{machine.short(file.path)}: {verb} the line that contains shell commands"
        return Outcome([line], restart=restarts.of_clients([_CLIENT]), has_backup=is_beside)

    def undo(self, machine: Machine, target: str, facts: Facts, *, dry_run: bool) -> Outcome:
        """Remove the line, and a file that ``do`` made."""
        file, undone = _file_of(machine.environment, target), Outcome()
        (program,), (inserted,), (replaced,) = (
            facts[key] for key in ("program", "inserted", "replaced")
        )
        short = machine.short(target)
        if not dry_run:
            files.remove_unfinished(target)
        if not file.exists:
            undone.left.append(gone(short, f"remove {VARIABLE} in it"))
            return undone
        original = files.read(target)
        text = original.text()
        try:
            before = shell_line.remove(text, inserted, replaced, program)
        except ParseError as error:
            where = f"{target}:{error.line}:{error.column}"
            raise ConfigError(f"{where}: {error.message}", "correct the file") from None
        except ConfigError as error:
            raise ConfigError(f"{target}: {error.message}", f"edit {target}") from None
        if before == text:
            undone.left.append(f"{short}: the line of setup is not in it by now")
            if not dry_run:
                drop_backup(target, facts)
            return undone
        undone.restart += restarts.of_clients([_CLIENT], restarts.since(facts))
        if not inserted and text == shell_line.new_text(program):
            if not dry_run:
                hook_files.remove(file, original)
            undone.lines.append(f"{short}: removed")
            return undone
        if not dry_run:
            new = before.encode()
            files.replace(original, new, again=True)
            # without one from before, it holds what this has just undone
            files.drop_backups(original, new, lambda old: old == original.raw)
        undone.lines.append(f"{short}: its line is removed")
        undone.left += edited(short) if is_edited(facts, sum_of(before)) else []
        return undone


def without_line(path: str, text: str) -> str:
    """Return a text of the settings without the line that is recorded; as it is if it has none."""
    with contextlib.suppress(StateError, ConfigError, LookupError, ValueError):
        for each in record.load().entries:
            if (each.step, each.target) == (ShellCommands.name, path):
                keys = ("inserted", "replaced", "program")
                inserted, replaced, program = (each.facts[key][0] for key in keys)
                if not inserted and text == shell_line.new_text(program):
                    return ""
                return shell_line.remove(text, inserted, replaced, program)
    return text


def _since(path: str) -> float:
    """Return when setup wrote the line, in seconds since the epoch; 0 if it did not."""
    with contextlib.suppress(StateError):
        for each in record.load().entries:
            if (each.step, each.target) == (ShellCommands.name, path):
                return restarts.since(each.facts)
    return 0.0


def _edit(file: HookFile, program: str) -> Facts:
    """Return what the line inserts, and what it replaces; both '' for a file that is made."""
    if not file.exists:
        return {"inserted": [""], "replaced": [""]}
    _, inserted, replaced = _added(file.path, files.read(file.path).text(), program)
    return {"inserted": [inserted], "replaced": [replaced]}


def _added(path: str, text: str, program: str) -> tuple[str, str, str]:
    try:
        if shell_line.value(text) is None:
            return shell_line.add(text, program)
    except ParseError as error:
        raise ConfigError(f"{path}:{error.line}:{error.column}: {error.message}") from None
    raise ConfigError(f"{path}: has another {VARIABLE} by now, which stays")


def _file_of(environment: Mapping[str, str], path: str) -> HookFile:
    """Return the settings of Claude Code; raises ConfigError if they are another file by now."""
    for each in hook_files.hook_files(environment, _CLIENT):
        if each.path == path:
            return each
    raise ConfigError(f"{path}: it is not the file of {_CLIENT} by now", f"remove {VARIABLE} there")


def _program(machine: Machine) -> str:
    """Return the program of the line, by a path that stays; raises ConfigError, UsageError."""
    launcher = machine.launcher()[1]
    beside = [os.path.join(os.path.dirname(each), NAME)
              for each in (launcher, os.path.realpath(launcher))]  # fmt: skip
    path = next((each for each in beside if os.access(each, os.X_OK)), "")
    if not path:
        raise ConfigError(f"there is no {beside[0]}")
    home = machine.environment.get("HOME", "").rstrip("/")
    cache = machine.environment.get("XDG_CACHE_HOME") or f"{home}/.cache"
    for each in (path, os.path.realpath(path)):
        if each.startswith((*_PASSING, f"{cache}/")):
            raise ConfigError(f"{each} may be gone soon: install scopekeeper first")
    return path
