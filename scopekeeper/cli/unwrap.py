"""``scopekeeper unwrap``."""

import click

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
from scopekeeper.cli.show import warn, with_no_trunc
from scopekeeper.cli.still_wrapped import documents, sentences, wrapped_project_files
from scopekeeper.mcp_configs.servers import ServerState
from scopekeeper.mcp_configs.wrap import Selection, unwrap


@click.command(
    "unwrap", epilog=examples("scopekeeper unwrap --dry-run", "scopekeeper unwrap --client cursor")
)
@click.option("--dry-run", is_flag=True, help="Print a diff, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one versioned JSON object.")
@with_no_trunc
@click.argument("files", nargs=-1, metavar="[FILE]...")
def command(
    client: str | None,
    kind: str | None,
    only: tuple[str, ...],
    excepted: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    no_trunc: bool,
    files: tuple[str, ...],
) -> None:
    """Undo `wrap`: let MCP clients start their servers as before.

    Restores FILE to the byte, except for what was edited since, and removes the backup once FILE
    has its servers as they were. Without FILE, it restores the files of all known clients in their
    usual places. Exit status: 0 done; 1 a file was refused, or a wrapped server's own command
    cannot be found; 4 no server has a name given with --only.
    """
    chosen = Selection(frozenset(only), frozenset(excepted))
    targets = target_files(files, client, kind)
    projects = [] if files else wrapped_project_files(client)
    if not targets and not as_json:
        click.echo(NONE_FOUND)
        warn(sentences(projects))
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
           more={"still_wrapped": documents(projects)})  # fmt: skip
    if as_json:
        check_names(done, chosen)
    warn(sentences(projects))
    failed = print_failures([
        f"{each.path}: {outcome.name!r} stays wrapped: {outcome.detail}"
        for each in done
        for outcome in each.outcomes
        if outcome.state is ServerState.UNCLEAR and outcome.launcher
    ])  # fmt: skip
    raise SystemExit(1 if failed or any(each.problem for each in done) else 0)


command.params[:0] = FILE_OPTIONS
