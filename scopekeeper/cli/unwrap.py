"""``scopekeeper unwrap``."""

import os
from collections.abc import Sequence
from typing import NoReturn

import click

from scopekeeper.cli import hook_settings
from scopekeeper.cli.configs import (
    FILE_OPTIONS,
    NONE_FOUND,
    check_names,
    print_failures,
    report,
    rewrite_files,
    target_files,
)
from scopekeeper.cli.examples import examples
from scopekeeper.cli.show import answer, warn, with_no_trunc
from scopekeeper.cli.still_wrapped import documents, sentences, wrapped_project_files
from scopekeeper.errors import UsageError
from scopekeeper.mcp_configs import hook_changes, known_clients
from scopekeeper.mcp_configs.hook_changes import ChangedFile
from scopekeeper.mcp_configs.hook_files import HookFile, hook_files
from scopekeeper.mcp_configs.servers import ServerState
from scopekeeper.mcp_configs.wrap import Selection, unwrap


@click.command(
    "unwrap", epilog=examples("scopekeeper unwrap --dry-run", "scopekeeper unwrap --client cursor")
)
@click.option("--hooks", is_flag=True, help="Only remove the hooks that `wrap --hooks` "
              "registered; the servers stay wrapped.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Print a diff, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one versioned JSON object.")
@with_no_trunc
@click.argument("files", nargs=-1, metavar="[FILE]...")
def command(
    client: str | None,
    kind: str | None,
    only: tuple[str, ...],
    excepted: tuple[str, ...],
    hooks: bool,
    dry_run: bool,
    as_json: bool,
    no_trunc: bool,
    files: tuple[str, ...],
) -> None:
    """Undo `wrap`: let MCP clients start their servers as before.

    Restores FILE to the byte, except for what was edited since, and removes the backup once FILE
    has its servers as they were. Without FILE, it restores the files of all known clients in their
    usual places, and removes the hooks that `wrap --hooks` registered. Exit status: 0 done; 1 a
    file was refused, or a wrapped server's own command cannot be found, or, without FILE, a
    clients.toml has an error; 4 no server has a name given with --only.
    """
    tables = known_clients.problems()
    warn(tables)
    servers_only = bool(files or kind or only or excepted)
    if hooks and servers_only:
        raise UsageError("--hooks is for the hooks of clients, not for servers",
                         "it goes with --client, --dry-run, --json")  # fmt: skip
    if hooks:
        _hooks_only(client, bool(tables), dry_run=dry_run, as_json=as_json, no_trunc=no_trunc)
    chosen = Selection(frozenset(only), frozenset(excepted))
    # before the servers, whose backup goes with them; it may remove a file, too
    with_hooks = [] if servers_only else _removed(hook_files(os.environ, client), dry_run=dry_run)
    targets = target_files(files, client, kind)
    projects = [] if files else wrapped_project_files(client)
    if not targets and not with_hooks and not as_json:
        click.echo(NONE_FOUND)
        warn(sentences(projects))
        if tables:
            raise SystemExit(1)
        return
    done = rewrite_files(
        targets,
        lambda _, text, kind: unwrap(text, kind, chosen),
        write=not dry_run,
        restores=True,
    )
    if not as_json:  # no table if no name matches
        check_names(done, chosen)
    report(done, "unwrapped", as_json=as_json, dry_run=dry_run, no_trunc=no_trunc,
           more={"still_wrapped": documents(projects),
                 "hooks": hook_settings.documents(with_hooks)})  # fmt: skip
    known = {each.problem for each in done}
    with_hooks = [each for each in with_hooks if each.problem not in known - {""}]
    if not as_json:
        hook_settings.report(with_hooks, hook_settings.REMOVED, dry_run=dry_run, no_trunc=no_trunc)
    if as_json:
        check_names(done, chosen)
    warn(sentences(projects))
    failed = print_failures([
        f"{each.path}: {outcome.name!r} stays wrapped: {outcome.detail}"
        for each in done
        for outcome in each.outcomes
        if outcome.state is ServerState.UNCLEAR and outcome.launcher
    ])  # fmt: skip
    problems = [*(each.problem for each in done), *(each.problem for each in with_hooks)]
    # a file of a client in a table that does not count was not even found
    raise SystemExit(1 if failed or any(problems) or (tables and not files) else 0)


def _removed(targets: Sequence[HookFile], *, dry_run: bool) -> list[ChangedFile]:
    """Remove the hooks in files; return those that had any, and those with a problem."""
    done = hook_changes.unregistered(targets, write=not dry_run)
    return [each for each in done if each.is_ours or each.problem]


def _hooks_only(
    client: str | None, is_incomplete: bool, *, dry_run: bool, as_json: bool, no_trunc: bool
) -> NoReturn:
    """Remove the hooks of clients, and exit."""
    targets = hook_settings.hook_targets(client)
    done = _removed(targets, dry_run=dry_run)
    if as_json:
        answer({"files": hook_settings.documents(done), "restart": hook_settings.restart(done)})
    elif not done:
        click.echo("No hook of scopekeeper is registered.")
    else:
        hook_settings.report(done, hook_settings.REMOVED, dry_run=dry_run, no_trunc=no_trunc)
    raise SystemExit(1 if is_incomplete or any(each.problem for each in done) else 0)


command.params[:0] = FILE_OPTIONS
