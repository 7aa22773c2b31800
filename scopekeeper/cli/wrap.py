"""``scopekeeper wrap``."""

import contextlib
import os
import shlex
from collections.abc import Sequence
from dataclasses import replace

import click

from scopekeeper.cli import run as plain
from scopekeeper.cli.configs import (
    FILE_OPTIONS,
    NOT_CONTAINED,
    RewrittenFile,
    check_names,
    report,
    rewrite_files,
    target_files,
)
from scopekeeper.cli.examples import examples
from scopekeeper.cli.show import warn, with_no_trunc
from scopekeeper.doctor.finding import Status
from scopekeeper.doctor.parts import gateways, keeper
from scopekeeper.errors import ScopekeeperError, UsageError
from scopekeeper.launch.request import Request
from scopekeeper.mcp_clients.formats import Format
from scopekeeper.mcp_clients.git import is_shared
from scopekeeper.mcp_clients.other_files import OtherFile, other_files
from scopekeeper.mcp_clients.program import USUAL_PATH, installed, mark_missing
from scopekeeper.mcp_clients.servers import PROGRAM, ServerState
from scopekeeper.mcp_clients.wrap import Launcher, Rewrite, Selection, look, wrap
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
    ),
)
@click.option("--program", metavar="PATH", help="The launcher to write. Default: scopekeeper if "
              f"it is in {USUAL_PATH}, else its absolute path.")  # fmt: skip
@click.option("--update", is_flag=True, help="Also give servers that are wrapped already this "
              "launcher, and the options of run given here in place of theirs.")  # fmt: skip
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
    Without FILE, it rewrites the files of all known clients in their usual places. A backup stays
    beside each file. A client reads the new file at its next start. Exit status: 0 done; 1 a file
    was refused, or a server in it could not be wrapped; 4 no server has a name given with --only.
    With --check: 0 all are wrapped; 1 some are not; 2 a file cannot be read. Without FILE, --check
    also looks at the projects that Claude Code knows, and at the plugins of clients.
    """
    if check and (dry_run or update):
        raise UsageError("--check never changes a file",
                         f"leave out {'--dry-run' if dry_run else '--update'}")  # fmt: skip
    chosen = Selection(frozenset(only), frozenset(excepted))
    launcher = None if check else _launcher(program, options)
    targets = target_files(files, client, kind)
    others = other_files(os.environ, client) if check and not files else []
    if not targets and not others and not as_json:
        click.echo("No configuration of a known client was found.")
        return
    done = _rewritten(targets, others, chosen, launcher, write=not (check or dry_run),
                      update=update, keep_path=program is not None)  # fmt: skip
    missing = _missing() if launcher and not dry_run and _any_wrapped(done) else []
    report(done, "" if check else "wrapped", as_json=as_json, dry_run=dry_run, no_trunc=no_trunc,
           missing=missing)  # fmt: skip
    check_names(done, chosen)
    if launcher:
        _warn(done, update=update)
    bad = NOT_CONTAINED if check else (ServerState.UNCLEAR, ServerState.NO_LAUNCHER)
    failed = any(outcome.state in bad for each in done for outcome in each.outcomes)
    if any(each.problem for each in done):
        raise SystemExit(_NOT_READ if check else 1)
    raise SystemExit(_NOT_ALL if failed else 0)


def _rewritten(
    targets: Sequence[tuple[str, Format | None]],
    others: Sequence[OtherFile],
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
        remedy = f"`scopekeeper wrap --update {shlex.quote(path)}`"
        return replace(made, outcomes=mark_missing(made.outcomes, remedy))

    done = rewrite_files(targets, rewriting, write=write)
    for other in others:
        (found,) = rewrite_files([(other.path, other.kind)], rewriting, write=False)
        done.append(replace(found, remedy=other.remedy))
    return done


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


def _warn(done: Sequence[RewrittenFile], *, update: bool) -> None:
    texts = []
    for each in done:
        changes = any(outcome.changed for outcome in each.outcomes)
        if changes and is_shared(each.path, os.environ):
            texts.append(f"{each.path} is in a git work tree: everybody who uses it needs "
                         f"{PROGRAM} in PATH, or cannot start its servers")  # fmt: skip
        differ = [outcome.name for outcome in each.outcomes if outcome.differs]
        if differ and not update:
            texts.append(f"{each.path}: {', '.join(differ)}: wrapped already, with other options, "
                         "which stay; to change them: add --update")  # fmt: skip
    warn(texts)
    with contextlib.suppress(ScopekeeperError):
        warn([f"{each.detail}: {each.fix}" for each in gateways(Caller())])


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
    return Launcher(program, program, tuple(words))


def _words(name: str, value: _Given) -> list[str]:
    """Return an option as it is written before a command."""
    option = f"--{name.replace('_', '-')}"
    if isinstance(value, tuple):
        return [word for each in value for word in (option, each)]
    if isinstance(value, bool):
        return [option] if value else []
    return [] if value is None else [option, value]
