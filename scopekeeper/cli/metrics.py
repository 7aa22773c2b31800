"""``scopekeeper metrics``."""

import functools
from dataclasses import asdict

import click

from scopekeeper import whole_file
from scopekeeper.cli.examples import examples
from scopekeeper.cli.output import write_bytes
from scopekeeper.cli.show import warn
from scopekeeper.cli.users import require_root, user, with_all_users
from scopekeeper.cli.whole_number import WholeNumber
from scopekeeper.errors import ScopekeeperError, UsageError
from scopekeeper.kernel import unix_sockets
from scopekeeper.kernel.proc import mount_point
from scopekeeper.metrics import facts as plain
from scopekeeper.metrics import read

_SECONDS = 60.0
"""How long reading the facts of other users may take."""


@click.command(
    "metrics",
    epilog=examples(
        "scopekeeper metrics",
        "scopekeeper metrics --format text --sessions 5",
        "scopekeeper metrics --textfile ~/scopekeeper.prom",
    ),
)
@click.option("--format", "form", type=click.Choice(["openmetrics", "text"]), default=None,
              help="OpenMetrics, the default, or Prometheus' own text format.")  # fmt: skip
@click.option("--textfile", metavar="PATH", help="Instead of printing, replace this file as a "
              "whole, in the format text: for node_exporter's textfile collector.")  # fmt: skip
@click.option("--sessions", type=WholeNumber(0, plain.MOST_SESSIONS), default=plain.SESSIONS,
              metavar="N", help="How many sessions have series of their own: those with the most "
              f"memory. The rest is summed as other. Default {plain.SESSIONS}.")  # fmt: skip
@with_all_users("Of every user with scopes; root only.")
def command(form: str | None, textfile: str | None, sessions: int, all_users: bool) -> None:
    """Print metrics for Prometheus.

    Scopes by lane, kind and state; processes, memory, CPU time and pressure by session; ends by
    reason; failed launches; processes that left their scope. It needs no keeper. A keeper serves
    the same and its own health: see `keeper --metrics`.

    Exit status: 0 done; 1 something could not be read or written; 2 wrong usage.
    """
    if all_users:
        require_root("read the metrics of other users")
    if textfile == "":
        raise UsageError("--textfile is empty", "give the path of a file")
    if textfile is not None and form == "openmetrics":
        raise click.UsageError("--textfile is read in the format text; leave out --format")
    look = functools.partial(
        read.read,
        mount_point(),
        functools.cache(unix_sockets.read),
        sessions=sessions,
        keep=textfile is not None,
    )
    found = [look()]
    problems: list[str] = []
    if all_users:
        others, problems = _of_others(look)
        found += others
    warn(problems)
    content = _written(found, "text" if textfile is not None else form or "openmetrics")
    if textfile is None:
        write_bytes(content)
    else:
        whole_file.replace(textfile, content, mode=0o644)
    raise SystemExit(1 if problems else 0)


def _written(found: list[plain.Facts], form: str) -> bytes:
    try:
        from scopekeeper.metrics import exposition
    except ImportError as error:
        raise ScopekeeperError(
            f"metrics need prometheus_client, which cannot be imported ({error})",
            "install it: the package is python3-prometheus-client, or prometheus_client with pip",
        ) from None
    return exposition.write(found, form)


def _of_others(
    look: "functools.partial[plain.Facts]",
) -> tuple[list[plain.Facts], list[str]]:
    """Return the facts of each other user with scopes, now or before, and the problems."""
    from scopekeeper import as_user

    found, problems = [], []
    for answer in as_user.ask(read.others(mount_point()), lambda: asdict(look()), _SECONDS):
        problem = answer.problem
        try:
            found += [] if problem else [plain.from_json(answer.value)]
        except (TypeError, LookupError, AttributeError):
            problem = "its answer cannot be read"
        if problem:
            problems.append(f"{user(answer.uid)}: {problem}")
    return found, problems
