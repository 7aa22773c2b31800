"""``scopekeeper exec``."""

import click

from scopekeeper.cli import run as plain
from scopekeeper.cli.attach import detaching
from scopekeeper.cli.examples import examples
from scopekeeper.cli.exec_run import execute
from scopekeeper.cli.plain_calls import NOT_OF_EXEC
from scopekeeper.cli.whole_number import WholeNumber
from scopekeeper.errors import UsageError

_NOT_OURS = (*NOT_OF_EXEC, "command")


@click.command(
    "exec",
    context_settings={"allow_interspersed_args": False},
    epilog=examples(
        "scopekeeper exec -s agent:main:main -- bash",
        "scopekeeper exec -d -s build --timeout 15m -- sh -c 'echo built'",
    ),
)
@click.option("--pty/--pipe", "tty", default=True, help="With a terminal, the default, or "
              "with pipes.")  # fmt: skip
@click.option("-d", "--detach", is_flag=True, help="Do not attach: print its id and exit.")
@click.option("--cols", metavar="N", type=WholeNumber(1, 9999), help="Columns of its window; "
              "default: those of this one, else 80.")  # fmt: skip
@click.option(
    "--rows",
    metavar="N",
    type=WholeNumber(1, 9999),
    help="Rows of its window; default: those of this one, else 24.",
)
@click.option("--no-output-timeout", metavar="DURATION", help="End it when it has written nothing "
              "for so long.")  # fmt: skip
@click.option("--timeout", metavar="DURATION", help="End this run after this time; the keeper "
              "counts it.")  # fmt: skip
@click.option("--log-max", metavar="SIZE", help="How much of its output to keep; default 8M.")
@click.option(
    "--detach-keys",
    metavar="KEYS",
    envvar="SCOPEKEEPER_DETACH_KEYS",
    help="Keys that detach, as with attach.",
)
@click.option("--json", "as_json", is_flag=True, help="With --detach: one versioned JSON object.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="COMMAND [ARG]...")
def command(
    command: tuple[str, ...],
    *,
    tty: bool,
    detach: bool,
    cols: int | None,
    rows: int | None,
    no_output_timeout: str | None,
    timeout: str | None,
    log_max: str | None,
    detach_keys: str | None,
    as_json: bool,
    **given: str | bool | tuple[str, ...] | None,
) -> None:
    """Start COMMAND with a terminal that outlives this process: the keeper holds it.

    It runs in a scope of its own, and its output is recorded. Attached, the default, its exit
    status becomes that of `exec`; 125 to 127 mean that it was not started, as with run, and 1,
    with a line on stderr, that it was started but attaching failed. If its output cannot be written
    here, it continues, is recorded, and its exit status counts.

    It gets descriptors 0, 1 and 2 of its own, and none of those that are open here.
    """
    if not command:
        raise UsageError("no command given; write: scopekeeper exec [OPTIONS] -- COMMAND [ARG]...")
    if as_json and not detach:
        raise UsageError("--json goes with --detach")
    execute(
        command,
        plain.as_given(given),
        detach=detach,
        tty=tty,
        cols=cols,
        rows=rows,
        no_output_timeout=no_output_timeout,
        timeout=timeout,
        log_max=log_max,
        detach_keys=detaching(detach_keys),
        as_json=as_json,
    )


command.params[:0] = [each for each in plain.command.params if each.name not in _NOT_OURS]
