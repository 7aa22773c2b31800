"""``scopekeeper exec``."""

import errno
import os
import sys
from typing import TYPE_CHECKING

import click

from scopekeeper.cli import run as plain
from scopekeeper.cli.attach import detaching
from scopekeeper.cli.examples import examples
from scopekeeper.cli.output import NOBODY_READS
from scopekeeper.cli.show import answer, warn
from scopekeeper.cli.whole_number import WholeNumber
from scopekeeper.errors import FAILED, InterruptedWorkError, ScopekeeperError, UsageError
from scopekeeper.quantities import duration, size

if TYPE_CHECKING:
    from scopekeeper.exec.run import Run
    from scopekeeper.exec.start import Wish

_NOT_OURS = ("run", "kind", "if_unavailable", "stderr", "command")


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
    from scopekeeper.exec.start import NotStartedError, Wish

    options = {
        name: "\0".join(value) if isinstance(value, tuple) else str(value)
        for name, value in given.items()
        if value not in (None, False, ())
    }
    keys = detaching(detach_keys)
    wide, high = _window()
    try:
        wish = Wish(
            command,
            options,
            tty=tty,
            cols=cols or wide,
            rows=rows or high,
            timeout=duration("timeout", timeout) if timeout else None,
            no_output_timeout=(
                duration("no_output_timeout", no_output_timeout) if no_output_timeout else None
            ),
            log_max=size("log_max", log_max) if log_max else None,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    try:
        run, pid = _start(wish)
    except InterruptedWorkError:
        raise
    except KeyboardInterrupt:
        raise InterruptedWorkError("nothing was started") from None
    except NotStartedError as error:
        sys.exit(error.status)
    except ValueError as error:
        raise UsageError(str(error)) from None
    except ScopekeeperError as error:
        error.status = FAILED
        raise
    except OSError as error:
        raise _cannot_start(error) from None
    if detach:
        if as_json:
            fields = {"run": run.id, "session": run.session, "lane": run.lane, "name": run.name}
            answer({**fields, "pid": pid})
        else:
            click.echo(run.id)
        _warn_of_logout()
        return
    sys.exit(_attach(run, keys))


def _cannot_start(error: OSError) -> ScopekeeperError:
    limits = {errno.EMFILE: "ulimit -n", errno.EAGAIN: "ulimit -u"}
    hint = f"raise its limit: {limits[error.errno]}" if error.errno in limits else ""
    failed = ScopekeeperError(f"the command was not started: {error.strerror or error}", hint)
    failed.status = FAILED
    return failed


def _warn_of_logout() -> None:
    """Warn if a detached run will not outlive the user's logins."""
    from scopekeeper.systemd import lingering
    from scopekeeper.systemd.units import answers

    uid = os.geteuid()
    if uid and answers(uid) and not lingering.lingers(uid):
        when = f"the last logout of {lingering.user_name(uid)}"
        warn([f"it ends at {when}, unless: {lingering.remedy(uid)}"])


def _start(wish: "Wish") -> "tuple[Run, int]":
    from scopekeeper.exec.reach import reach
    from scopekeeper.exec.start import NotHeldError, check, start

    check(wish)
    placement = wish.options.get("placement", "")
    with reach(placement) as connection:
        try:
            return start(wish, connection)
        except NotHeldError:
            pass
    with reach(placement) as connection:  # the other one was exiting
        return start(wish, connection)


def _window() -> tuple[int, int]:
    for fd in (0, 1, 2):
        try:
            found = os.get_terminal_size(fd)
        except OSError:
            continue
        if found.columns and found.lines:
            return found.columns, found.lines
    return 80, 24


def _attach(run: "Run", detach_keys: bytes) -> int:
    """Attach from its first byte on; return its exit status, 0 if detached."""
    from scopekeeper.exec import attach, messages

    try:
        status = attach.run(run, detach_keys=detach_keys, redraw=False, position=0, brief=True)
    except BrokenPipeError:
        sys.exit(NOBODY_READS)  # as any program whose output nobody reads; the run continues
    except KeyboardInterrupt:
        raise InterruptedWorkError(messages.goes_on(run.id)) from None
    except (OSError, ScopekeeperError) as error:
        problem = error.message if isinstance(error, ScopekeeperError) else error.strerror
        hint = f"the command was started, attach again: scopekeeper attach {run.id}"
        raise ScopekeeperError(f"cannot attach to {run.id}: {problem}", hint) from None
    return status or 0


command.params[:0] = [each for each in plain.command.params if each.name not in _NOT_OURS]
