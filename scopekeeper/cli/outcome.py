"""Calls a command and turns its errors into one line on stderr and an exit status.

For every command, also those that are called without click.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

from scopekeeper.cli import output
from scopekeeper.errors import InterruptedWorkError, ScopekeeperError, UsageError
from scopekeeper.launch import signals
from scopekeeper.safe_text import safe


def of(call: Callable[[], object], failed: int | None = None) -> int:
    """Return the exit status of a call, which prints what it has to.

    failed overrides the exit status of every error of scopekeeper.
    """
    try:
        status = call()
    except SystemExit as ended:
        status = ended.code
    except ScopekeeperError as error:
        print_error(str(error))
        return failed or error.status
    except LookupError as error:
        if "cgroup2" not in str(error):
            return _internal(error)
        print_error(f"{error.args[0]}; `scopekeeper doctor` shows what is missing")
        return 1
    except BrokenPipeError:
        return output.NOBODY_READS
    except OSError as error:
        if error is getattr(sys.stdout, "problem", None):
            return 1  # finish() reports it
        return _internal(error)
    except Exception as error:  # noqa: BLE001  users never see a traceback
        return _internal(error)
    return status if isinstance(status, int) else 0


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Die by SIGINT after one has interrupted what is done inside; say what was begun."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if isinstance(interrupt, InterruptedWorkError):
            print_error(f"interrupted: {interrupt}")
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        signals.die()
        raise


def point_to_help(error: UsageError, command: str) -> None:
    """Have an error in the call of a command lead to its help."""
    if not error.hint and ";" not in error.message:
        error.hint = f"see `{command} --help`"


def print_error(text: str) -> None:
    """Print a line on stderr, unless that is closed."""
    if sys.stderr is not None:
        sys.stderr.write(f"scopekeeper: {safe(text)}\n")


def _internal(error: Exception) -> int:
    if os.environ.get("SCOPEKEEPER_DEBUG"):
        raise error
    if isinstance(error, OSError):
        print_error(f"{error.filename or 'error'}: {error.strerror or error}")
    else:
        print_error(
            f"internal error: {type(error).__name__}: {error}; SCOPEKEEPER_DEBUG=1 shows where"
        )
    return 1
