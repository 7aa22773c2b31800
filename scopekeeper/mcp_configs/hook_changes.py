"""Registers and removes hooks in the files of clients, each file on its own."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from scopekeeper.errors import ConfigError
from scopekeeper.mcp_configs import edit_diff, files, hook_files
from scopekeeper.mcp_configs.document import Edit, ParseError
from scopekeeper.mcp_configs.hook_files import HookFile
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
from scopekeeper.mcp_configs.servers import PROGRAM, holds


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


def looked_at(targets: Sequence[HookFile], *, to_register: bool = False) -> list[ChangedFile]:
    """Look at the hooks of files, which may not exist.

    With to_register, a file in which no hook can be registered has that as its problem.
    """

    def one(file: HookFile) -> ChangedFile:
        text = files.read(file.path).text() if file.exists else new_text(file.kind)
        found = look(text, file.kind)
        missing = [each for each in found.outcomes if each.state is HookState.NOT_REGISTERED]
        if to_register and any(not each.detail for each in missing):
            register(text, file.kind, PROGRAM)
        return ChangedFile(file, _with_missing(found, file))

    return [_attempt(each, one) for each in targets]


def registered(
    targets: Sequence[HookFile], program: str, *, update: bool, write: bool
) -> list[ChangedFile]:
    """Register the hooks in each file on its own; with write, write it."""

    def one(file: HookFile) -> ChangedFile:
        if write:
            files.remove_unfinished(file.path)
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

    for each in targets if write else ():
        files.remove_unfinished(each.path)
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


def would_go(file: HookFile, text: str, *, is_made: bool) -> bool:
    """Return whether a file would be removed that has this text without its hooks."""
    return is_only_ours(text, file.kind) or (is_made and text == new_text(file.kind))


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
