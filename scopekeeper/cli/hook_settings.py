"""What ``wrap --hooks`` and ``unwrap`` print of the hooks in clients' settings."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import click

from scopekeeper.cli.show import safe, safe_json, table
from scopekeeper.cli.table import Column, Fit
from scopekeeper.errors import UsageError
from scopekeeper.mcp_configs import hook_files
from scopekeeper.mcp_configs.hook_changes import ChangedFile
from scopekeeper.mcp_configs.hook_files import HookFile, clients_with_hooks
from scopekeeper.mcp_configs.hooks import HookOutcome, HookState
from scopekeeper.mcp_configs.running import running
from scopekeeper.safe_text import safe_lines

NONE_FOUND = "No client with hooks was found."
REGISTERED, REMOVED = "registered", "removed"
_COLUMNS = (
    Column("HOOK", Fit.MIDDLE, 12),
    Column("STATE"),
    Column("DETAIL", Fit.WRAP, 24, need=1),
    Column("FILE", Fit.MIDDLE, 20, need=2),
)


def hook_targets(client: str | None) -> list[HookFile]:
    """Return the files of a client, or of all that this user has; raises UsageError."""
    known = clients_with_hooks()
    if client is not None and client not in known:
        raise UsageError(f"--hooks does not know the hooks of {client}",
                         f"it knows those of {', '.join(known)}")  # fmt: skip
    return hook_files.hook_files(os.environ, client)


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
