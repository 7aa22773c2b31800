"""What ``wrap --hooks`` and ``unwrap`` do with the hooks in clients' settings, and its report."""

import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import click

from scopekeeper.cli.show import safe, safe_json, table, warn
from scopekeeper.cli.table import Column, Fit
from scopekeeper.errors import ConfigError, UsageError
from scopekeeper.mcp_configs import edit_diff, files, hook_files
from scopekeeper.mcp_configs.document import Edit, ParseError
from scopekeeper.mcp_configs.hook_files import CLIENTS_WITH_HOOKS, HookFile
from scopekeeper.mcp_configs.hooks import (
    HookOutcome,
    HookRewrite,
    HookState,
    holds_hooks,
    is_only_ours,
    look,
    new_text,
    register,
    unregister,
)
from scopekeeper.mcp_configs.program import is_missing
from scopekeeper.mcp_configs.running import running
from scopekeeper.mcp_configs.servers import holds
from scopekeeper.safe_text import safe_lines

NONE_FOUND = "No client with hooks was found."
REGISTERED, REMOVED = "registered", "removed"
_COLUMNS = (
    Column("HOOK", Fit.MIDDLE, 12),
    Column("STATE"),
    Column("DETAIL", Fit.WRAP, 24, need=1),
    Column("FILE", Fit.MIDDLE, 20, need=2),
)


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """The result for one file with hooks."""

    file: HookFile
    rewrite: HookRewrite | None = None
    changed: bool = False
    """Whether the file was written, made or removed."""
    made: bool = False
    removed: bool = False
    diff: str = ""
    backup: str = ""
    backups_removed: tuple[str, ...] = ()
    """Backups that held what the file holds now."""
    problem: str = ""

    @property
    def outcomes(self) -> tuple[HookOutcome, ...]:
        """The outcome for each event."""
        return self.rewrite.outcomes if self.rewrite else ()

    @property
    def is_ours(self) -> bool:
        """Whether it has, or had, a hook of scopekeeper."""
        return any(each.program for each in self.outcomes)


def hook_targets(client: str | None) -> list[HookFile]:
    """Return the files of a client, or of all that this user has; raises UsageError."""
    if client is not None and client not in CLIENTS_WITH_HOOKS:
        raise UsageError(f"--hooks does not know the hooks of {client}",
                         f"it knows those of {', '.join(CLIENTS_WITH_HOOKS)}")  # fmt: skip
    return hook_files.hook_files(os.environ, client)


def looked_at(targets: Sequence[HookFile]) -> list[ChangedFile]:
    """Look at the hooks of files, which may not exist."""

    def one(file: HookFile) -> ChangedFile:
        text = files.read(file.path).text() if file.exists else new_text(file.kind)
        return ChangedFile(file, _with_missing(look(text, file.kind), file))

    return [_attempt(each, one) for each in targets]


def registered(
    targets: Sequence[HookFile], program: str, *, update: bool, write: bool
) -> list[ChangedFile]:
    """Register the hooks in each file on its own; with write, write it."""

    def one(file: HookFile) -> ChangedFile:
        original = files.read(file.path) if file.exists else None
        text = original.text() if original else new_text(file.kind)
        made = _with_missing(register(text, file.kind, program, update=update), file)
        if not write or made.text == text:
            return ChangedFile(file, made, diff=_diff(file, original, made))
        if original is None:
            hook_files.make(file, made.text)
            return ChangedFile(file, made, changed=True, made=True)
        was = any(each.program for each in look(text, file.kind).outcomes)
        backup = files.replace(original, made.text.encode(), again=was,
                               is_outdated=_outdated(text, file))  # fmt: skip
        return ChangedFile(file, made, changed=True, backup=backup)

    return [_attempt(each, one) for each in targets]


def unregistered(targets: Sequence[HookFile], *, write: bool) -> list[ChangedFile]:
    """Remove scopekeeper's hooks from each file on its own; skip files that have none."""

    def one(file: HookFile) -> ChangedFile:
        original = files.read(file.path)
        text = original.text()
        made = unregister(text, file.kind)
        if made.text == text:
            return ChangedFile(file, made)
        goes = _was_made(file, original, made.text)
        if not write:
            return ChangedFile(file, made, diff=_diff(file, original, made, goes=goes))
        if goes:
            hook_files.remove(file, original)
            return ChangedFile(file, made, changed=True, removed=True)
        new = made.text.encode()
        outdated = _outdated(made.text, file)
        files.replace(original, new, again=True, is_outdated=outdated)
        gone, _ = files.drop_backups(original, new, outdated)
        return ChangedFile(file, made, changed=True, backups_removed=tuple(gone))

    return [_attempt(each, one) for each in targets if _may_have_ours(each)]


def _diff(
    file: HookFile, original: files.Original | None, made: HookRewrite, *, goes: bool = False
) -> str:
    """Return the diff of a file that is changed, made or removed."""
    text = original.text() if original else ""
    edits = made.edits
    if original is None or goes:
        edits = (Edit(0, len(text), "" if goes else made.text),)
    return edit_diff.unified(file.path, text, edits, is_new=original is None, is_gone=goes)


def _may_have_ours(file: HookFile) -> bool:
    """Return whether a file has the words of a hook; others are not even parsed."""
    try:
        raw = files.read(file.path).raw
    except ConfigError:
        return file.exists
    return b"scopekeeper" in raw and file.kind.client.encode() in raw


def _was_made(file: HookFile, original: files.Original, text: str) -> bool:
    """Return whether ``wrap --hooks`` has made a file, and nothing was added to it."""
    if os.path.islink(file.path):
        return False
    if is_only_ours(text, file.kind):
        return True
    return text == new_text(file.kind) and hook_files.is_made(original)


def _outdated(text: str, file: HookFile) -> Callable[[bytes], bool]:
    return lambda old: holds_hooks(text, old, file.kind) and holds(text, old, file.client)


def _attempt(file: HookFile, one: Callable[[HookFile], ChangedFile]) -> ChangedFile:
    path = file.path
    try:
        return one(file)
    except ParseError as error:
        problem = f"{path}:{error.line}:{error.column}: {error.message}"
    except ConfigError as error:
        is_named = error.message.startswith(path)
        message = error.message if is_named else f"{path}: {error.message}"
        problem = str(ConfigError(message, error.hint))
    return ChangedFile(file, problem=problem)


def _with_missing(made: HookRewrite, file: HookFile) -> HookRewrite:
    """Mark the hooks whose launcher does not exist, and that were not changed."""
    return replace(made, outcomes=tuple(
        replace(each, state=HookState.NO_LAUNCHER,
                detail=f"there is no {each.program}: `{hook_files.update_command(file)}`")
        if each.state is HookState.REGISTERED and not each.changed and is_missing(each.program)
        else each
        for each in made.outcomes
    ))  # fmt: skip


def report(done: Sequence[ChangedFile], changed: str, *, dry_run: bool, no_trunc: bool) -> None:
    """Print the state of every hook, and what to do next.

    changed is the word for those that were changed: registered, removed, or '' if none can be.
    """
    if dry_run:
        for each in done:
            click.echo(safe_lines(each.diff), nl=False)
    else:
        rows = [
            (f"{each.file.client.name} {outcome.event}", _state(outcome, changed),
             outcome.detail or "-", each.file.path)
            for each in done for outcome in each.outcomes if changed != REMOVED or outcome.program
        ]  # fmt: skip
        if rows:
            table(_COLUMNS, rows, whole=no_trunc)
        for each in done:
            for text in _file_lines(each):
                click.echo(safe(text))
        for client, pids in restart(done).items():
            numbers = ", ".join(map(str, pids))
            click.echo(f"Restart {client} (pid {numbers}): it reads its file only when it starts.")
        for text in notes(done) if changed == REGISTERED else ():
            click.echo(safe(text))
    for each in done:
        if each.problem:
            click.echo(f"scopekeeper: {safe(each.problem)}", err=True)


def _state(outcome: HookOutcome, changed: str) -> str:
    if outcome.updated:
        return "updated"
    if outcome.changed:
        return changed
    is_old = outcome.state is HookState.REGISTERED and changed == REGISTERED
    return f"{'already ' if is_old else ''}{outcome.state.value}"


def _file_lines(each: ChangedFile) -> Iterator[str]:
    """Yield the lines on a file and its backup."""
    path = each.file.path
    if each.made:
        yield f"{path}: made"
    elif each.removed:
        yield f"{path}: removed, since nothing else is in it"
    elif each.changed:
        yield f"{path}: rewritten" + (f"; backup: {each.backup}" if each.backup else "")
    for backup in each.backups_removed:
        yield f"{backup}: removed, since {path} has its hooks as they were"


def notes(done: Sequence[ChangedFile]) -> list[str]:
    """Return what the user has to do before clients run their new hooks."""
    return [each.file.kind.note for each in done if each.changed and each.file.kind.note]


def restart(done: Sequence[ChangedFile]) -> dict[str, list[int]]:
    """Return the running clients whose file was changed."""
    return running(each.file.client.name for each in done if each.changed)


def failures(done: Sequence[ChangedFile]) -> list[str]:
    """Return a sentence for each hook that is registered and does nothing."""
    bad = (HookState.NO_LAUNCHER, HookState.SWITCHED_OFF)
    return [f"{each.file.path}: {outcome.event}: {outcome.detail}"
            for each in done for outcome in each.outcomes if outcome.state in bad]  # fmt: skip


def warn_of_program(program: str) -> None:
    """Warn of a launcher that does not exist."""
    if "/" in program and not os.access(program, os.X_OK):
        warn([f"there is no {shlex.quote(program)}: these hooks do nothing"])


def documents(done: Sequence[ChangedFile]) -> list[dict[str, Any]]:
    """Return the JSON objects of files."""
    return [
        {
            "path": safe_json(each.file.path),
            "client": each.file.client.name,
            "made": each.made,
            "removed": each.removed,
            "backup": safe_json(each.backup) or None,
            "backups_removed": [safe_json(path) for path in each.backups_removed],
            "problem": safe_json(each.problem) or None,
            "diff": each.diff or None,
            "note": each.file.kind.note or None,
            "hooks": [
                {"event": outcome.event, "state": outcome.state.value,
                 "detail": safe_json(outcome.detail) or None, "changed": outcome.changed,
                 "updated": outcome.updated}
                for outcome in each.outcomes
            ],
        }
        for each in done
    ]  # fmt: skip
