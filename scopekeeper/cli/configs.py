"""What ``wrap`` and ``unwrap`` share: which files are meant, and what is said of them."""

import difflib
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click

from scopekeeper.cli.show import answer, safe, safe_json, table, warn
from scopekeeper.errors import ConfigError, UsageError
from scopekeeper.mcp_clients import files
from scopekeeper.mcp_clients.document import ParseError
from scopekeeper.mcp_clients.formats import FORMATS, Format, found, recognise
from scopekeeper.mcp_clients.servers import ServerState
from scopekeeper.mcp_clients.wrap import Rewrite, Selection, WrapOutcome
from scopekeeper.safe_text import safe_lines

NO_SUCH_SERVER = 4
_NAMES = "|".join(FORMATS)
CHOOSING: list[click.Parameter] = [
    click.Option(["--client"], type=click.Choice([*FORMATS]), metavar=_NAMES,
                 help="Only this client's own files."),
    click.Option(["--format", "kind"], type=click.Choice([*FORMATS]), metavar=_NAMES,
                 help="How FILE is to be read, whatever its name."),
    click.Option(["--only"], metavar="SERVER", multiple=True, help="Only this server, also if it "
                 "is disabled. May be given again."),
    click.Option(["--except", "excepted"], metavar="SERVER", multiple=True,
                 help="Not this server. May be given again."),
]  # fmt: skip
"""The options that say which files and servers are meant."""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """One file, and what became of it."""

    path: str
    kind: Format | None
    rewrite: Rewrite | None = None
    diff: str = ""
    backup: str = ""
    problem: str = ""

    @property
    def outcomes(self) -> tuple[WrapOutcome, ...]:
        """What there is to say of its servers."""
        return self.rewrite.outcomes if self.rewrite else ()


def meant(
    paths: Sequence[str], client: str | None, kind: str | None
) -> list[tuple[str, Format | None]]:
    """Return the files that a call means, with their format where that is known by now."""
    if paths and client:
        raise UsageError("--client looks for files itself", "give FILE with --format")
    if kind and not paths:
        raise UsageError("--format is of a FILE", "give the file, or --client")
    if paths:
        return [(path, FORMATS[kind] if kind else None) for path in paths]
    known: list[tuple[str, Format | None]] = [*found(os.environ, client)]
    return known


def work(
    targets: Sequence[tuple[str, Format | None]],
    rewriting: Callable[[str, Format], Rewrite],
    *,
    write: bool,
) -> list[Rewritten]:
    """Rewrite each file for itself: one that cannot be is no reason to leave the others."""
    return [_work_on(path, kind, rewriting, write=write) for path, kind in targets]


def _work_on(
    path: str,
    kind: Format | None,
    rewriting: Callable[[str, Format], Rewrite],
    *,
    write: bool,
) -> Rewritten:
    try:
        original = files.read(path)
        text = original.text()
        kind = kind or _format(path, text)
        rewrite = rewriting(text, kind)
        if rewrite.text == text:
            return Rewritten(path, kind, rewrite)
        if not write:
            return Rewritten(path, kind, rewrite, diff=_diff(path, text, rewrite.text))
        backup = files.replace(original, rewrite.text.encode())
    except ParseError as error:
        return Rewritten(path, kind, problem=f"{path}:{error.line}:{error.column}: {error.message}")
    except ConfigError as error:
        return Rewritten(path, kind, problem=str(error))
    return Rewritten(path, kind, rewrite, backup=backup)


def _format(path: str, text: str) -> Format:
    kind = recognise(path, text)
    if kind is None:
        raise ConfigError(
            f"{path}: neither its name nor what is in it says whose it is",
            f"give --format {'|'.join(FORMATS)}",
        )
    return kind


def _diff(path: str, old: str, new: str) -> str:
    """Return a unified diff that patch(1) takes, with -p1 -d / where the path is absolute."""
    name = f"{path}\t" if " " in path else path
    lines = difflib.unified_diff(
        list(io.StringIO(old, newline="\n")), list(io.StringIO(new, newline="\n")), name, name
    )
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )


def tell(done: Sequence[Rewritten], changed: str, *, as_json: bool, dry_run: bool) -> None:
    """Say what became of every server; changed is the word for those that were rewritten."""
    if as_json:
        answer({"files": [_document(each) for each in done]})
    elif dry_run:
        for each in done:
            click.echo(safe_lines(each.diff), nl=False)
    else:
        _print(done, changed)
    for each in done:
        warn([f"{each.path}: {note}" for note in (each.rewrite.notes if each.rewrite else ())])
        if dry_run and not as_json:
            for outcome in each.outcomes:
                if not outcome.changed and outcome.state is not ServerState.LEFT_OUT:
                    text = f"{outcome.name}: {_said(outcome, changed)}"
                    detail = f": {outcome.detail}" if outcome.detail else ""
                    click.echo(safe(f"{each.path}: {text}{detail}"), err=True)
        if each.problem:
            click.echo(f"scopekeeper: {safe(each.problem)}", err=True)


def _print(done: Sequence[Rewritten], changed: str) -> None:
    rows = [
        (outcome.name, _said(outcome, changed), outcome.detail or "-", _where(each, outcome))
        for each in done
        for outcome in each.outcomes
    ]
    if rows:
        table(("SERVER", "STATE", "DETAIL", "FILE"), rows, shrink=(0, 2, 3))
    for each in done:
        if each.rewrite is not None and not each.outcomes:
            click.echo(safe(f"{each.path}: no servers"))
        if each.backup:
            click.echo(safe(f"{each.path}: rewritten; as it was: {each.backup}"))


def _said(outcome: WrapOutcome, changed: str) -> str:
    if outcome.changed:
        return changed
    if outcome.state is ServerState.WRAPPED and changed == "wrapped":
        return "already wrapped"
    return outcome.state.value


def _where(done: Rewritten, outcome: WrapOutcome) -> str:
    """Return the file, and which part of it where a file has several."""
    return " ".join([done.path, *outcome.place[1:-1]])


def _document(done: Rewritten) -> dict[str, Any]:
    return {
        "path": safe_json(done.path),
        "format": done.kind.name if done.kind else None,
        "backup": safe_json(done.backup) or None,
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
            }
            for outcome in done.outcomes
        ],
    }


def check_names(done: Sequence[Rewritten], chosen: Selection) -> None:
    """Say which names no server has; exits 4 where --only names none that is there."""
    names = {outcome.name for each in done for outcome in each.outcomes}
    unknown = sorted((chosen.only | chosen.excepted) - names)
    for name in unknown:
        click.echo(f"scopekeeper: warning: no server is called {safe(name)}", err=True)
    if chosen.only and not chosen.only & names and not any(each.problem for each in done):
        raise SystemExit(NO_SUCH_SERVER)
