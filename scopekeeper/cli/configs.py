"""What ``wrap`` and ``unwrap`` share: find the files, rewrite them, report the result."""

import difflib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from scopekeeper.cli.show import answer, safe, safe_json, table, warn
from scopekeeper.cli.table import Column, Fit
from scopekeeper.errors import ConfigError, UsageError
from scopekeeper.mcp_configs import edit_diff, files
from scopekeeper.mcp_configs.backups import paths_of
from scopekeeper.mcp_configs.client_format import Format
from scopekeeper.mcp_configs.document import ParseError
from scopekeeper.mcp_configs.formats import check, found, language, recognise, shapes
from scopekeeper.mcp_configs.known_clients import built_in, client_named, formats, problems
from scopekeeper.mcp_configs.running import running
from scopekeeper.mcp_configs.servers import ServerState, holds
from scopekeeper.mcp_configs.wrap import Rewrite, Selection, WrapOutcome
from scopekeeper.safe_text import safe_lines

NO_SUCH_SERVER = 4
NONE_FOUND = "No configuration of a known client was found in its usual place."
Rewriting = Callable[[str, str, Format], Rewrite]
"""Returns the rewrite of a file, from its path, text and format."""
_COLUMNS = (
    Column("SERVER", Fit.MIDDLE, 12),
    Column("STATE"),
    Column("DETAIL", Fit.WRAP, 24, need=1),
    Column("FILE", Fit.MIDDLE, 20, need=2),
)
NOT_CONTAINED = (ServerState.UNCLEAR, ServerState.NOT_WRAPPED, ServerState.NO_LAUNCHER)
_NAMES = [*built_in()]


if TYPE_CHECKING:
    _Choice = click.Choice[str]
else:
    _Choice = click.Choice  # click 8.1 has no type parameter


class _Client(_Choice):
    """The name of a client, also of one that the user has added; a wrong one gets a suggestion."""

    def convert(
        self,
        value: Any,  # noqa: ANN401  as click has it
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str:
        """Return the name of its entry in the table; raises BadParameter."""
        client = client_named(str(value))
        if client is None:
            known = formats()
            near = suggestion(str(value), known)
            wrong = (
                f"{value!r} is none{near} All: {', '.join(known)}"
                if near
                else f"{value!r} is not one of {', '.join(map(repr, known))}"
            )
            # it may be in a table that does not count
            self.fail("; ".join([wrong, *problems()]), param, ctx)
        return client.name


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return a question with the known name that is most like another; '' if none is."""
    close = difflib.get_close_matches(name.lower(), list(known), n=1)
    return f". Did you mean {close[0]!r}?" if close else ""


FILE_OPTIONS: list[click.Parameter] = [
    click.Option(["--client"], type=_Client(_NAMES), metavar="CLIENT",
                 help=f"Only the files of this client: {', '.join(_NAMES)}."),
    click.Option(["--format", "kind"], type=_Client(_NAMES), metavar="CLIENT",
                 help="Read FILE as one of this client, whatever its name."),
    click.Option(["--only"], metavar="SERVER", multiple=True, help="Only this server, even if it "
                 "is disabled. May be repeated."),
    click.Option(["--except", "excepted"], metavar="SERVER", multiple=True,
                 help="All but this server. May be repeated."),
]  # fmt: skip
"""The options that select files and servers."""


@dataclass(frozen=True, slots=True)
class RewrittenFile:
    """The result for one file."""

    path: str
    kind: Format | None
    rewrite: Rewrite | None = None
    changed: bool = False
    """Whether the file was written."""
    diff: str = ""
    backup: str = ""
    problem: str = ""
    backups_removed: tuple[str, ...] = ()
    """Backups that held what the file holds now."""
    backups_kept: tuple[str, ...] = ()
    """Backups that differ from what was restored."""
    remedy: str = ""
    """What contains the servers of a file that is only looked at."""
    is_projects: bool = False
    """Whether it is a file of a project, and only looked at."""
    is_backup_older: bool = False
    """Whether the backup holds other servers than the file had."""

    @property
    def outcomes(self) -> tuple[WrapOutcome, ...]:
        """The outcome for each server in it."""
        return self.rewrite.outcomes if self.rewrite else ()


def target_files(
    paths: Sequence[str], client: str | None, kind: str | None
) -> list[tuple[str, Format | None]]:
    """Return the files to work on, each with its format if it is known yet."""
    if paths and client:
        raise UsageError("--client looks for files itself", "give FILE with --format")
    if kind and not paths:
        raise UsageError("--format needs a FILE", "give FILE, or use --client")
    if "" in paths:
        raise UsageError("the path of a FILE is empty", "give the path of a configuration")
    if paths:
        given, own = formats().get(kind or ""), dict(found(os.environ))
        return [(path, given or own.get(os.path.abspath(path))) for path in paths]
    known: list[tuple[str, Format | None]] = [*found(os.environ, client)]
    return known


def rewrite_files(
    targets: Sequence[tuple[str, Format | None]],
    rewriting: Rewriting,
    *,
    write: bool,
    restores: bool = False,
) -> list[RewrittenFile]:
    """Rewrite each file on its own: a failure in one does not stop the others.

    With restores, the backup that holds what was restored is removed.
    """
    return [
        _rewrite_file(path, kind, rewriting, write=write, restores=restores)
        for path, kind in targets
    ]


def _rewrite_file(
    path: str, kind: Format | None, rewriting: Rewriting, *, write: bool, restores: bool
) -> RewrittenFile:
    if write:
        files.remove_unfinished(path)
    try:
        original = files.read(path)
        text = original.text()
        known = kind = kind or _format(path, text)
        rewrite = _rewritten(path, text, kind, rewriting)
        if not write:
            return RewrittenFile(
                path, kind, rewrite, diff=edit_diff.unified(path, text, rewrite.edits)
            )
        new = rewrite.text.encode()
        was_wrapped = any(outcome.program for outcome in rewrite.outcomes)
        changed, backup = rewrite.text != text, ""
        if changed:
            backup = files.replace(original, new, again=was_wrapped,
                                   is_outdated=lambda old: holds(text, old, known))  # fmt: skip
        if not restores or any(_stays(outcome) for outcome in rewrite.outcomes):
            older = changed and not was_wrapped and files.read(backup).raw != original.raw
            return RewrittenFile(path, kind, rewrite, changed, backup=backup, is_backup_older=older)
        removed, kept = files.drop_backups(
            original, new, lambda old: holds(rewrite.text, old, known)
        )
    except ParseError as error:
        problem = f"{path}:{error.line}:{error.column}: {error.message}"
        return RewrittenFile(path, kind, problem=problem)
    except ConfigError as error:
        return RewrittenFile(path, kind, problem=str(error))
    return RewrittenFile(path, kind, rewrite, changed, backup=backup if backup in kept else "",
                         backups_removed=tuple(removed), backups_kept=tuple(kept))  # fmt: skip


def _rewritten(path: str, text: str, kind: Format, rewriting: Rewriting) -> Rewrite:
    """Return the rewrite; an error names the file."""
    try:
        return rewriting(path, text, kind)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", error.hint) from None


def _stays(outcome: WrapOutcome) -> bool:
    """Return whether a server is still wrapped."""
    return bool(outcome.program) and not outcome.changed


def _format(path: str, text: str) -> Format:
    try:
        kind = recognise(path, text)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", error.hint) from None
    if kind is None:
        kept = _backups_of(path)
        before = f"; as it was before `wrap`: {', '.join(kept)}" if kept else ""
        try:
            check(path, text)
        except ParseError as error:
            raise ConfigError(
                f"{path}:{error.line}:{error.column}: {error.message}{before}",
                f"by its name it is {language(path)}; if not, give --format CLIENT",
            ) from None
        raise ConfigError(
            f"{path}: has no servers where a client known here or in clients.toml has them{before}",
            f"give --format CLIENT of a client that has them there ({shapes()})",
        )
    return kind


def _backups_of(path: str) -> list[str]:
    try:
        return paths_of(os.path.realpath(path))
    except (OSError, ConfigError):
        return []


def report(
    done: Sequence[RewrittenFile],
    changed: str,
    *,
    as_json: bool,
    dry_run: bool,
    no_trunc: bool = False,
    missing: Sequence[str] = (),
    more: Mapping[str, object] | None = None,
) -> None:
    """Print the state of every server, and what to do next.

    changed is the word for the rewritten ones, missing has what containment still lacks, more has
    more keys of the JSON object.
    """
    restart = running(each.kind.name for each in done if each.changed and each.kind)
    writers = running(each.kind.name for each in done if each.kind and _is_written_back(each))
    if as_json:
        answer({"files": [_document(each) for each in done], "missing": list(missing),
                "restart": restart, "may_undo": writers, **(more or {})})  # fmt: skip
    elif dry_run:
        for each in done:
            click.echo(safe_lines(each.diff), nl=False)
    else:
        _print(done, changed, no_trunc=no_trunc)
        for text in missing:
            click.echo(safe(f"Still missing: {text}"))
        for client, pids in restart.items():
            numbers = ", ".join(map(str, pids))
            click.echo(f"Restart {client} (pid {numbers}): it reads its file only when it starts.")
    warn([f"{client} (pid {', '.join(map(str, pids))}) runs, and writes its file from its memory: "
          "that may undo this; end it, and run this again"
          for client, pids in writers.items() if not dry_run])  # fmt: skip
    for each in done:
        warn([f"{each.path}: {note}" for note in (each.rewrite.notes if each.rewrite else ())])
        if dry_run and not as_json:
            for outcome in each.outcomes:
                if not outcome.changed and outcome.state is not ServerState.LEFT_OUT:
                    text = f"'{outcome.name}': {_state(outcome, changed)}"
                    detail = f": {outcome.detail}" if outcome.detail else ""
                    click.echo(safe(f"{each.path}: {text}{detail}"), err=True)
        if each.remedy:
            warn(not_wrapped(each))
        if each.problem:
            click.echo(f"scopekeeper: {safe(each.problem)}", err=True)


def _is_written_back(done: RewrittenFile) -> bool:
    """Return whether a file was changed that its client writes from its memory."""
    name = os.path.basename(done.path)
    return done.changed and done.kind is not None and name in done.kind.writes_back


def _print(done: Sequence[RewrittenFile], changed: str, *, no_trunc: bool) -> None:
    rows = [
        (outcome.name, _state(outcome, changed), outcome.detail or "-", _place(each, outcome))
        for each in done
        for outcome in each.outcomes
    ]
    if rows:
        table(_COLUMNS, rows, whole=no_trunc)
    for each in done:
        for text in _file_lines(each):
            click.echo(safe(text))


def _file_lines(each: RewrittenFile) -> Iterator[str]:
    """Yield the lines on a file and its backup."""
    if each.rewrite is not None and not each.outcomes:
        yield f"{each.path}: no servers"
    if each.changed:
        is_new = each.backup and each.backup not in each.backups_kept
        backup = f"; backup: {each.backup}" if is_new else ""
        earlier = ", of an earlier wrap: it has servers that the file lacks"
        yield f"{each.path}: rewritten{backup}{earlier if each.is_backup_older else ''}"
    for path in each.backups_removed:
        yield f"{path}: removed, since {each.path} has its servers as they were"
    for path in each.backups_kept:
        lacks = f"{each.path} lacks servers that are in it, or has them changed"
        yield f"{path}: kept, since {lacks}; remove it if you do not need it"


def _state(outcome: WrapOutcome, changed: str) -> str:
    if outcome.updated:
        return "updated"
    if outcome.changed:
        return changed
    if outcome.state is ServerState.WRAPPED and changed == "wrapped":
        return "already wrapped"
    return outcome.state.value


def _place(done: RewrittenFile, outcome: WrapOutcome) -> str:
    """Return the file, and the table inside it if a file can have several."""
    return " ".join([done.path, *outcome.place[1:-1]])


def not_wrapped(done: RewrittenFile) -> list[str]:
    """Return a sentence if a file that is only looked at has servers to be contained."""
    states = (ServerState.NOT_WRAPPED,) if done.is_projects else NOT_CONTAINED
    names = ", ".join(outcome.name for outcome in done.outcomes if outcome.state in states)
    run = "run " if done.is_projects else ""
    text = f"{done.path} has servers that are not wrapped: {names}; {run}{done.remedy}"
    return [text] if names else []


def not_wrapped_documents(projects: Sequence[RewrittenFile]) -> list[dict[str, Any]]:
    """Return the JSON objects of files of projects with servers to be wrapped."""
    return [
        {
            "path": safe_json(each.path),
            "remedy": safe_json(each.remedy),
            "servers": [o.name for o in each.outcomes if o.state is ServerState.NOT_WRAPPED],
        }
        for each in projects
        if not_wrapped(each)
    ]


def _document(done: RewrittenFile) -> dict[str, Any]:
    return {
        "path": safe_json(done.path),
        "format": done.kind.name if done.kind else None,
        "backup": safe_json(done.backup) or None,
        "backups_removed": [safe_json(path) for path in done.backups_removed],
        "backups_kept": [safe_json(path) for path in done.backups_kept],
        "remedy": safe_json(done.remedy) or None,
        "problem": safe_json(done.problem) or None,
        "diff": done.diff or None,
        "notes": list(done.rewrite.notes) if done.rewrite else [],
        "servers": [
            {
                "name": outcome.name,
                "place": list(outcome.place),
                "state": outcome.state.value,
                "detail": outcome.detail or None,
                "changed": outcome.changed,
                "updated": outcome.updated,
                "dropped": list(outcome.dropped),
                "added": list(outcome.added),
            }
            for outcome in done.outcomes
        ],
    }


def check_names(
    done: Sequence[RewrittenFile], chosen: Selection, others: Sequence[RewrittenFile] = ()
) -> None:
    """Warn of names that match no server; exit 4 if no --only name matches any.

    Names of servers in other files are no reason for a warning.
    """
    names = {outcome.name for each in done for outcome in each.outcomes}
    known = names.union(outcome.name for each in others for outcome in each.outcomes)
    for name in sorted((chosen.only | chosen.excepted) - known):
        text = f"no server is called {safe(name)}{safe(suggestion(name, known))}"
        click.echo(f"scopekeeper: warning: {text}", err=True)
    if chosen.only and not chosen.only & names and not any(each.problem for each in done):
        raise SystemExit(NO_SUCH_SERVER)


def print_failures(failures: Sequence[str]) -> bool:
    """Print what could not be done, on stderr; return whether there is anything."""
    for text in failures:
        click.echo(f"scopekeeper: {safe(text)}", err=True)
    return bool(failures)
