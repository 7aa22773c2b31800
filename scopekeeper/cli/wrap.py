"""``scopekeeper wrap``."""

import contextlib
import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn

import click

from scopekeeper.cli import hook_settings
from scopekeeper.cli import run as plain
from scopekeeper.cli.configs import (
    FILE_OPTIONS,
    NONE_FOUND,
    NOT_CONTAINED,
    RewrittenFile,
    check_names,
    not_wrapped,
    not_wrapped_documents,
    print_failures,
    report,
    rewrite_files,
    target_files,
)
from scopekeeper.cli.examples import examples
from scopekeeper.cli.show import answer, warn, with_no_trunc
from scopekeeper.cli.wrap_warnings import launchers_not_usual, warnings
from scopekeeper.doctor.finding import Status
from scopekeeper.doctor.parts import gateways, keeper
from scopekeeper.errors import ScopekeeperError, UsageError
from scopekeeper.launch.request import Request
from scopekeeper.mcp_configs import hook_changes, known_clients
from scopekeeper.mcp_configs.client_format import Format
from scopekeeper.mcp_configs.git import is_shared
from scopekeeper.mcp_configs.hooks import HookState
from scopekeeper.mcp_configs.other_files import OtherFile, plugin_files, project_files
from scopekeeper.mcp_configs.program import USUAL_PATH, installed, mark_missing
from scopekeeper.mcp_configs.rewrap import remedy_for
from scopekeeper.mcp_configs.servers import PROGRAM, ServerState
from scopekeeper.mcp_configs.wrap import Launcher, Rewrite, Selection, look, wrap
from scopekeeper.scope import choose_placement
from scopekeeper.scope.placement import Caller

_NOT_WRITTEN = ("name", "kind", "command")
"""Parameters of ``run`` that ``wrap`` chooses itself; it writes all others as they are given."""
_Given = str | bool | tuple[str, ...] | None
_NOT_ALL = 1
_NOT_READ = 2


@click.command(
    "wrap",
    epilog=examples(
        "scopekeeper wrap --dry-run",
        "scopekeeper wrap --client cursor --member-memory-max 2G",
        "scopekeeper wrap --check ~/.cursor/mcp.json",
        "scopekeeper wrap --hooks --client gemini",
    ),
)
@click.option("--hooks", is_flag=True, help="Instead of servers, register the hooks by which a "
              "client reports the end of a session; without --client, for each client that has "
              "them.")  # fmt: skip
@click.option("--program", metavar="PATH", help="The launcher to write. Default: scopekeeper if "
              f"it is in {USUAL_PATH}, else its absolute path.")  # fmt: skip
@click.option("--update", is_flag=True, help="Also give servers that are wrapped already this "
              "launcher and exactly the options of run given here; without any, none.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Print a diff, and change nothing.")
@click.option("--check", is_flag=True, help="Only show which servers are wrapped.")
@click.option("--json", "as_json", is_flag=True, help="Print one versioned JSON object.")
@with_no_trunc
@click.argument("files", nargs=-1, metavar="[FILE]...")
def command(
    client: str | None,
    kind: str | None,
    only: tuple[str, ...],
    excepted: tuple[str, ...],
    hooks: bool,
    program: str | None,
    update: bool,
    dry_run: bool,
    check: bool,
    as_json: bool,
    no_trunc: bool,
    files: tuple[str, ...],
    **options: _Given,
) -> None:
    """Rewrite the configuration of MCP clients so that their servers are contained.

    Puts `scopekeeper run` before the command of each stdio server; all else in FILE stays as it is.
    Without FILE, it rewrites the files of all known clients in their usual places, and names those
    of projects: of the current folder, its git work tree, and the folders that clients have opened.
    A backup of each file is kept. A client reads the new file at its next start. Exit status: 0
    done; 1 a file was refused, or a server in it could not be wrapped; 4 no server has a name given
    with --only. With --check: 0 all are wrapped; 1 some are not; 2 a file cannot be read. Without
    FILE, --check also looks at the files of projects, and at the plugins of clients. --hooks makes
    a settings file that does not exist, and is undone by `unwrap`.
    """
    warn(known_clients.problems())
    if check and (dry_run or update):
        raise UsageError("--check never changes a file",
                         f"leave out {'--dry-run' if dry_run else '--update'}")  # fmt: skip
    if hooks:
        if files or kind or only or excepted or any(options.values()):
            raise UsageError("--hooks is for the hooks of clients, not for servers",
                             "it goes with --client, --program, --update, --dry-run, --check, "
                             "--json")  # fmt: skip
        launcher = None if check else _launcher(program, {})
        _hooks(client, launcher, update=update, dry_run=dry_run, as_json=as_json,
               no_trunc=no_trunc)  # fmt: skip
    chosen = Selection(frozenset(only), frozenset(excepted))
    launcher = None if check else _launcher(program, options)
    targets = target_files(files, client, kind)
    projects = [] if files else project_files(os.environ, client)
    plugins = plugin_files(os.environ, client) if check and not files else []
    found = _looked_at(projects + plugins, chosen)
    if not targets and not (check and found) and not as_json:
        click.echo(NONE_FOUND)
        _name(found)
        return
    done = _rewritten(targets, chosen, launcher, write=not (check or dry_run),
                      update=update, keep_path=program is not None)  # fmt: skip
    if check:
        done, found = done + found, []
    _name(found)
    if not as_json:  # no table if no name matches
        check_names(done, chosen, found)
    missing = _missing() if launcher and not dry_run and _any_wrapped(done) else []
    report(done, "" if check else "wrapped", as_json=as_json, dry_run=dry_run, no_trunc=no_trunc,
           missing=missing,
           more={} if check else {"projects": not_wrapped_documents(found)})  # fmt: skip
    if as_json:
        check_names(done, chosen, found)
    if launcher:
        warn([*warnings(done, update=update, program=program and launcher.program)])
    warn([*launchers_not_usual(done)])
    if launcher:
        with contextlib.suppress(ScopekeeperError):
            warn([f"{each.detail}: {each.fix}" for each in gateways(Caller())])
    if check:
        raise SystemExit(_status_of_check(done))
    failures = _failures(done)
    if as_json or not dry_run:  # else the diff is followed by the state of each server
        print_failures(failures)
    raise SystemExit(1 if failures or any(each.problem for each in done) else 0)


def _hooks(
    client: str | None,
    launcher: Launcher | None,
    *,
    update: bool,
    dry_run: bool,
    as_json: bool,
    no_trunc: bool,
) -> NoReturn:
    """Register the hooks of clients, or look at them without a launcher; exit."""
    targets = hook_settings.hook_targets(client)
    if launcher is None:
        done = hook_changes.looked_at(targets, to_register=True)
    else:
        done = hook_changes.registered(targets, launcher.program, update=update,
                                        write=not dry_run)  # fmt: skip
    if as_json:
        answer({"files": hook_settings.documents(done), "restart": hook_settings.restart(done)})
    elif not targets:
        click.echo(hook_settings.NONE_FOUND)
    else:
        changed = hook_settings.REGISTERED if launcher else ""
        hook_settings.report(done, changed, dry_run=dry_run, no_trunc=no_trunc)
    failed = print_failures(hook_settings.failures(done)) if launcher else False
    if any(each.problem for each in done):
        raise SystemExit(1 if launcher else _NOT_READ)
    states = [outcome.state for each in done for outcome in each.outcomes]
    is_bad = failed if launcher else any(each is not HookState.REGISTERED for each in states)
    raise SystemExit(_NOT_ALL if is_bad else 0)


def _name(found: Sequence[RewrittenFile]) -> None:
    """Name the files of projects with servers to be wrapped."""
    for each in found:
        warn([each.problem] if each.problem else not_wrapped(each))


def _status_of_check(done: Sequence[RewrittenFile]) -> int:
    if any(each.problem for each in done):
        return _NOT_READ
    return _NOT_ALL if any(o.state in NOT_CONTAINED for each in done for o in each.outcomes) else 0


def _failures(done: Sequence[RewrittenFile]) -> list[str]:
    """Return a sentence for each server that the client cannot start contained."""
    texts = []
    for each in done:
        for outcome in each.outcomes:
            name = f"{each.path}: {outcome.name!r}"
            if outcome.state is ServerState.UNCLEAR:
                leave = f"to leave it out: --except {shlex.quote(outcome.name)}"
                texts.append(f"{name} cannot be wrapped: {outcome.detail}; {leave}")
            elif outcome.state is ServerState.NO_LAUNCHER:
                texts.append(f"{name} cannot start: {outcome.detail}")
    return texts


def _rewritten(
    targets: Sequence[tuple[str, Format | None]],
    chosen: Selection,
    launcher: Launcher | None,
    *,
    write: bool,
    update: bool,
    keep_path: bool,
) -> list[RewrittenFile]:
    """Rewrite or look at all files; launcher is None to look only."""

    def rewriting(path: str, text: str, kind: Format) -> Rewrite:
        if launcher is None:
            made = look(text, kind, chosen)
        else:
            this = launcher
            if not keep_path and is_shared(path, os.environ):
                this = replace(launcher, program=PROGRAM, absolute=PROGRAM)
            made = wrap(text, kind, this, chosen, update=update)
        remedy = remedy_for(path, made.outcomes)
        return replace(made, outcomes=mark_missing(made.outcomes, remedy))

    return rewrite_files(targets, rewriting, write=write)


def _looked_at(others: Sequence[OtherFile], chosen: Selection) -> list[RewrittenFile]:
    """Look at the files of projects and plugins."""
    done = _rewritten([(other.path, other.kind) for other in others], chosen, None,
                      write=False, update=False, keep_path=False)  # fmt: skip
    return [
        replace(each, remedy=other.remedy, is_projects=other.is_projects)
        for each, other in zip(done, others, strict=True)
    ]


def _any_wrapped(done: Sequence[RewrittenFile]) -> bool:
    return any(o.state is ServerState.WRAPPED for each in done for o in each.outcomes)


def _missing() -> list[str]:
    """Return what containment lacks on this machine, each with the command that adds it."""
    try:
        found = keeper(choose_placement.find(Caller()))
    except ScopekeeperError as error:
        text = f"a place for scopes: {error}: until there is one, these servers do not start; see "
        return [f"{text}`scopekeeper doctor`"]
    if found.status is not Status.NOTE:
        return []
    stays = "what a killed client leaves stays until the next `scopekeeper reconcile`"
    return [f"the keeper: {found.detail}. Until it is there, {stays}. To add it: {found.fix}"]


_OF_RUN = [each for each in plain.command.params if each.name not in _NOT_WRITTEN]
command.params[:0] = [*FILE_OPTIONS, *_OF_RUN]


def _launcher(program: str | None, options: dict[str, _Given]) -> Launcher:
    try:
        # report a wrong option now, not at each start of a server
        Request(plain.as_given(options), {}, PROGRAM)
        words = [word for name, value in options.items() for word in _words(name, value)]
        for word in (*words, program or ""):
            word.encode()
    except UnicodeEncodeError:
        raise UsageError("an option is not UTF-8", "a configuration has to be") from None
    except ValueError as error:
        raise UsageError(str(error)) from None
    if program is None:
        name, absolute = installed()
        return Launcher(name, absolute, tuple(words))
    if "/" in program:
        program = os.path.abspath(program)
    if os.path.basename(program) != PROGRAM:
        raise UsageError(f"--program {program!r} is not called {PROGRAM}",
                         "wrapped servers are recognised by that name")  # fmt: skip
    if "/" in program and not (os.path.isfile(program) and os.access(program, os.X_OK)):
        raise UsageError(f"--program {shlex.quote(program)}: there is no such program",
                         "servers and hooks that are wrapped with it could not start")  # fmt: skip
    return Launcher(program, program, tuple(words))


def _words(name: str, value: _Given) -> list[str]:
    """Return an option as it is written before a command."""
    option = f"--{name.replace('_', '-')}"
    if isinstance(value, tuple):
        return [word for each in value for word in (option, each)]
    if isinstance(value, bool):
        return [option] if value else []
    return [] if value is None else [option, value]
