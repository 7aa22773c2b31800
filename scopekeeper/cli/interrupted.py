"""What Ctrl-C in the middle of a stop prints: what was asked, what still runs, what finishes it."""

import contextlib
import os
from collections.abc import Iterator, Sequence

from scopekeeper.cli.show import processes
from scopekeeper.data import dataclass
from scopekeeper.errors import InterruptedWorkError
from scopekeeper.lifecycle.stop_interrupted import StopInterruptedError, living
from scopekeeper.lifecycle.stop_target import Result

NOTHING = "nothing was stopped"
_AFTER = "`scopekeeper reconcile` does what is left of it"


@dataclass(slots=True)
class Progress:
    """How far a command has come, for the line that Ctrl-C prints."""

    stopped: Sequence[Result] | None = None
    """The results of its stop, once that is over."""


@contextlib.contextmanager
def reported() -> Iterator[Progress]:
    """Turn Ctrl-C in a command that stops something into InterruptedWorkError, with one line."""
    progress = Progress()
    try:
        yield progress
    except StopInterruptedError as error:
        raise InterruptedWorkError(_words(error.begun)) from None
    except KeyboardInterrupt:
        stopped = progress.stopped
        raise InterruptedWorkError(NOTHING if stopped is None else _words(stopped)) from None


def _words(begun: Sequence[Result]) -> str:
    """Return the clauses: what got a signal, what lives, what ends that, and where to look."""
    if not begun:
        return NOTHING
    targets = [each.target for each in begun]
    left = living(targets)
    asked = _asked(begun)
    if not left:
        return f"{asked}, and no process is left; {_AFTER}"
    runs = f"{processes(left)} still run{'s' if left == 1 else ''}"
    return f"{asked}, {runs}; {_finishes(begun)}; look: {_look(begun)}"


def _asked(begun: Sequence[Result]) -> str:
    terminated, killed = (sum(getattr(x, what) for x in begun) for what in ("terminated", "killed"))
    if not terminated and not killed:
        return "the stop was begun"
    text = f"{processes(max(terminated, killed))} got SIGTERM"
    return f"{text}, {killed} of them SIGKILL" if killed else text


def _finishes(begun: Sequence[Result]) -> str:
    """Return what finishes the stop: systemd does not, only a keeper or the next reconcile."""
    if any(_uid_of(each) not in (os.geteuid(), None) for each in begun):
        return "`scopekeeper reconcile --all-users` finishes this stop"
    from scopekeeper.cli.unseen import keeper_runs

    if keeper_runs():
        return "the keeper finishes this stop"
    return "no keeper runs: `scopekeeper reconcile` finishes this stop"


def _uid_of(result: Result) -> int | None:
    try:
        return os.stat(result.target.scope_directory).st_uid
    except OSError:
        return None


def _look(begun: Sequence[Result]) -> str:
    units = {each.target.unit for each in begun}
    command = "scopekeeper ls --members"
    if any(_uid_of(each) not in (os.geteuid(), None) for each in begun):
        command += " --all-users"
    if len(units) > 1:
        return f"`{command} --state stopping`"
    import shlex

    (unit,) = units
    return f"`{command} {shlex.quote(unit)}`"
