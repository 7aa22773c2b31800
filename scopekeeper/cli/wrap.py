"""``scopekeeper wrap``."""

import contextlib
import os

import click

from scopekeeper.cli import run as plain
from scopekeeper.cli.configs import FILE_OPTIONS, check_names, report, rewrite_files, target_files
from scopekeeper.cli.examples import examples
from scopekeeper.cli.show import warn
from scopekeeper.doctor.parts import gateways
from scopekeeper.errors import ScopekeeperError, UsageError
from scopekeeper.launch.request import Request
from scopekeeper.mcp_clients.program import USUAL_PATH, installed
from scopekeeper.mcp_clients.servers import PROGRAM, ServerState
from scopekeeper.mcp_clients.wrap import Launcher, Selection, look, wrap
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
@click.option("--dry-run", is_flag=True, help="Print a diff, and change nothing.")
@click.option("--check", is_flag=True, help="Only show which servers are wrapped.")
@click.option("--json", "as_json", is_flag=True, help="Print one versioned JSON object.")
@click.argument("files", nargs=-1, metavar="[FILE]...")
def command(
    client: str | None,
    kind: str | None,
    only: tuple[str, ...],
    excepted: tuple[str, ...],
    program: str | None,
    dry_run: bool,
    check: bool,
    as_json: bool,
    files: tuple[str, ...],
    **options: _Given,
) -> None:
    """Rewrite the configuration of MCP clients so that their servers are contained.

    Puts `scopekeeper run` before the command of each stdio server; all else in FILE stays as it is.
    Without FILE, it rewrites the files of all known clients in their usual places. A backup stays
    beside each file. A client reads the new file at its next start. Exit status: 0 done; 1 a file
    was refused, or a server in it could not be wrapped; 4 no server has a name given with --only.
    With --check: 0 all are wrapped; 1 some are not; 2 a file cannot be read.
    """
    if check and dry_run:
        raise UsageError("--check never changes a file", "leave out --dry-run")
    chosen = Selection(frozenset(only), frozenset(excepted))
    launcher = None if check else _launcher(program, options)
    targets = target_files(files, client, kind)
    if not targets and not as_json:
        click.echo("No configuration of a known client was found.")
        return
    done = rewrite_files(
        targets,
        lambda text, kind: (
            wrap(text, kind, launcher, chosen) if launcher else look(text, kind, chosen)
        ),
        write=not (check or dry_run),
    )
    report(done, "" if check else "wrapped", as_json=as_json, dry_run=dry_run)
    check_names(done, chosen)
    if launcher:
        with contextlib.suppress(ScopekeeperError):  # no place for scopes yet: run will say so
            warn([f"{each.detail}: {each.fix}" for each in gateways(Caller())])
    bad = {ServerState.UNCLEAR, ServerState.NOT_WRAPPED} if check else {ServerState.UNCLEAR}
    failed = any(outcome.state in bad for each in done for outcome in each.outcomes)
    if any(each.problem for each in done):
        raise SystemExit(_NOT_READ if check else 1)
    raise SystemExit(_NOT_ALL if failed else 0)


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
