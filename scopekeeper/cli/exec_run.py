"""Starts what ``exec`` is called with, and attaches to it; ``exec -d`` comes here without click."""

import errno
import os
import sys

from scopekeeper.cli.colour import say
from scopekeeper.cli.output import NOBODY_READS
from scopekeeper.errors import FAILED, InterruptedWorkError, ScopekeeperError, UsageError
from scopekeeper.quantities import duration, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from scopekeeper.exec.run import Run
    from scopekeeper.exec.start import Wish


def execute(
    command: tuple[str, ...],
    options: dict[str, str],
    *,
    detach: bool,
    tty: bool = True,
    cols: int | None = None,
    rows: int | None = None,
    no_output_timeout: str | None = None,
    timeout: str | None = None,
    log_max: str | None = None,
    detach_keys: bytes = b"",
    as_json: bool = False,
) -> None:
    """Start a run; print its id if it is detached, else attach to it and exit with its status.

    options are those that a launch has too.
    """
    from scopekeeper.exec.start import NotStartedError, Wish

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
            from scopekeeper.cli.show import answer

            answer({**fields, "pid": pid})
        else:
            say(run.id)
        _warn_of_logout()
        return
    sys.exit(_attach(run, detach_keys))


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
        from scopekeeper.cli.show import warn

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
