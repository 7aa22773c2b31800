"""``scopekeeper metrics``."""

import functools
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from scopekeeper import unfinished_files, whole_file
from scopekeeper.cli.examples import examples
from scopekeeper.cli.on_hosts.options import with_hosts
from scopekeeper.cli.output import write_bytes
from scopekeeper.cli.show import answer, warn
from scopekeeper.cli.users import require_root, user, with_all_users
from scopekeeper.cli.whole_number import WholeNumber
from scopekeeper.errors import ScopekeeperError, UsageError
from scopekeeper.kernel import unix_sockets
from scopekeeper.kernel.proc import mount_point
from scopekeeper.metrics import facts as plain
from scopekeeper.metrics import read
from scopekeeper.version import __version__

if TYPE_CHECKING:
    from types import ModuleType

_SECONDS = 60.0
"""How long reading the facts of other users may take."""


@click.command(
    "metrics",
    epilog=examples(
        "scopekeeper metrics",
        "scopekeeper metrics --format text --sessions 5",
        "scopekeeper metrics --textfile ~/scopekeeper.prom",
        "scopekeeper metrics -H build1 -H build2",
    ),
)
@with_hosts("metrics")
@click.option("--format", "form", type=click.Choice(["openmetrics", "text"]), default=None,
              help="OpenMetrics, the default, or Prometheus' own text format.")  # fmt: skip
@click.option("--textfile", metavar="PATH", help="Instead of printing, replace this file as a "
              "whole, in the format text: for node_exporter's textfile collector.")  # fmt: skip
@click.option("--sessions", type=WholeNumber(0, plain.MOST_SESSIONS), default=plain.SESSIONS,
              metavar="N", help="How many sessions have series of their own: those with the most "
              f"memory. The rest is summed as other. Default {plain.SESSIONS}.")  # fmt: skip
@with_all_users("Of every user with scopes; root only.")
@click.option("--json", "as_json", is_flag=True, help="Print the facts that metrics are made of "
              "as one versioned JSON object: -H asks for it.")  # fmt: skip
def command(
    form: str | None, textfile: str | None, sessions: int, all_users: bool, as_json: bool
) -> None:
    """Print metrics for Prometheus.

    Scopes by lane, kind and state; processes, memory, CPU time and pressure by session; ends by
    reason; failed launches; processes that left their scope. It needs no keeper. A keeper serves
    the same and its own health: see `keeper --metrics`. With -H, every metric has a label host, and
    scopekeeper_host_up is 0 for a host that does not answer.

    Exit status: 0 done; 1 something could not be read or written; 2 wrong usage.
    """
    publish = publisher(form, textfile, as_json=as_json)
    if all_users:
        require_root("read the metrics of other users")
    look = functools.partial(
        read.read,
        mount_point(),
        functools.cache(unix_sockets.read),
        sessions=sessions,
        keep=textfile is not None or as_json,
    )
    found = [look()]
    problems: list[str] = []
    if all_users:
        others, problems = _of_others(look)
        found += others
    warn(problems)
    if as_json:
        answer({"scopekeeper": __version__, "users": [_document(each) for each in found]})
    else:
        publish(lambda exposition, form: exposition.write(found, form))
    raise SystemExit(1 if problems else 0)


Publish = Callable[[Callable[["ModuleType", str], bytes]], None]
"""Prints or writes what is returned for the module ``exposition`` and a format."""


def publisher(form: str | None, textfile: str | None, *, as_json: bool) -> Publish:
    """Return what prints metrics, or replaces the file; raises UsageError for wrong options."""
    if textfile == "":
        raise UsageError("--textfile is empty", "give the path of a file")
    if textfile is not None and not textfile.endswith(".prom"):
        problem = "node_exporter reads no file whose name does not end in .prom"
        raise UsageError(problem, f"give --textfile {textfile}.prom")
    if textfile is not None and form == "openmetrics":
        raise UsageError("--textfile is read in the format text", "leave out --format")
    if as_json and (form or textfile is not None):
        name = "--textfile" if form is None else "--format"
        raise UsageError(f"--json and {name} exclude each other", "give one of them")

    def publish(write: Callable[["ModuleType", str], bytes]) -> None:
        content = write(_exposition(), "text" if textfile is not None else form or "openmetrics")
        if textfile is None:
            write_bytes(content)
        else:
            unfinished_files.beside(textfile)
            whole_file.replace(textfile, content, mode=0o644)

    return publish


def _exposition() -> "ModuleType":
    try:
        from scopekeeper.metrics import exposition
    except ImportError as error:
        raise ScopekeeperError(
            f"metrics need prometheus_client, which cannot be imported ({error})",
            "install it: the package is python3-prometheus-client, or prometheus_client with pip",
        ) from None
    return exposition


def _document(facts: plain.Facts) -> dict[str, Any]:
    keys = ("lane", "kind", "state", "count")
    scopes = [dict(zip(keys, each, strict=True)) for each in facts.scopes]
    return {**asdict(facts), "scopes": scopes}


def _of_others(
    look: "functools.partial[plain.Facts]",
) -> tuple[list[plain.Facts], list[str]]:
    """Return the facts of each other user with scopes, now or before, and the problems."""
    from scopekeeper import as_user

    found, problems = [], []
    for each in as_user.ask(read.others(mount_point()), lambda: asdict(look()), _SECONDS):
        problem = each.problem
        try:
            found += [] if problem else [plain.from_json(each.value)]
        except (TypeError, LookupError, AttributeError):
            problem = "its answer cannot be read"
        if problem:
            problems.append(f"{user(each.uid)}: {problem}")
    return found, problems
