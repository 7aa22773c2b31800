"""Stops members that this process started, and proves it."""

import contextlib
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence

from scopekeeper import state
from scopekeeper.errors import RemainsError, StateError
from scopekeeper.kernel import cgroupfs
from scopekeeper.kernel.proc import mount_point
from scopekeeper.launch.leave_scope import step_aside
from scopekeeper.lifecycle import stop, stop_target
from scopekeeper.python_api.birthplace import Birthplace
from scopekeeper.python_api.launcher import Launch
from scopekeeper.python_api.process import Process, log
from scopekeeper.scope import record_parser, records
from scopekeeper.scope.reason import Cause, Reason

_PAUSE = 0.01


def end(
    members: Sequence[Process | Launch | Birthplace], *, grace: float | None, reason: str
) -> list[stop_target.Result]:
    """Stop members, each with all that it has left in its leaf, and reap them.

    A Launch or a Birthplace is a member that something else reaps. ``grace`` is the seconds between
    SIGTERM and SIGKILL, None for that of the scopes. Returns one result for each contained member;
    raises RemainsError.
    """
    contained = [each for each in members if each.directory]
    results: list[stop_target.Result] = []
    if contained:
        mount = mount_point()
        targets = [_target(each, mount, grace) for each in contained]
        cause, warnings = Cause(Reason.STOPPED, reason), list[str]()

        def stopping() -> list[stop_target.Result]:
            return stop.stop(
                targets,
                causes=[cause] * len(targets),
                warnings=warnings,
                step_out=step_aside,
            )

        results = _reaping([each for each in members if isinstance(each, Process)], stopping)
        for text in warnings:
            log.warning(text)
        release(mount, {each.scope for each in contained})
    uncontained = [each for each in members if isinstance(each, Process) and not each.directory]
    _end_uncontained(uncontained, stop_target.GRACE if grace is None else grace)
    left = [
        (each, result) for each, result in zip(contained, results, strict=True) if is_left(result)
    ]
    words = [_words(each, result) for each, result in left]
    words += [
        f"pid {gone.pid} ({gone.command[:60]}) had left {each.member} and lives in {gone.cgroup}"
        for each, result in zip(contained, results, strict=True)
        for gone in result.escaped
    ]
    words += [f"pid {each.pid} cannot be killed" for each in uncontained if each.poll() is None]
    if words:
        raise RemainsError("; ".join(words), "look with: scopekeeper ls --members", results)
    return results


@contextlib.contextmanager
def noted_on(error: BaseException | None) -> Iterator[None]:
    """Turn a RemainsError into a note on the error that is already raised, if there is one."""
    try:
        yield
    except RemainsError as remains:
        if error is None:
            raise
        log.error(str(remains))
        error.add_note(str(remains))


def is_over(member: Process) -> bool:
    """Return whether a member has ended and its leaf is empty."""
    return member.poll() is not None and not (
        member.directory and cgroupfs.is_populated(member.directory)
    )


def _target(
    member: Process | Launch | Birthplace, mount: str, grace: float | None
) -> stop_target.Target:
    path = member.directory[len(mount) :]
    return stop_target.Target(member.directory, path, _grace_of(member) if grace is None else grace)


def _grace_of(member: Process | Launch | Birthplace) -> float:
    """Return the grace of the member's scope, in seconds."""
    with contextlib.suppress(OSError, records.RecordError):
        scope = member.directory.rpartition("/")[0]
        raw = cgroupfs.attribute(scope, records.ATTRIBUTE)
        return stop_target.grace_of(record_parser.scope(raw, scope.rpartition("/")[2]).grace)
    return stop_target.GRACE


def _reaping(
    members: Sequence[Process], stopping: Callable[[], list[stop_target.Result]]
) -> list[stop_target.Result]:
    """Reap members while they are stopped: a cgroup with zombies cannot always be removed."""
    over = threading.Event()

    def reap() -> None:
        while not over.wait(_PAUSE):
            if None not in [each.poll() for each in members]:
                return

    reaper = threading.Thread(target=reap, name="scopekeeper-reaper", daemon=True)
    reaper.start()
    try:
        return stopping()
    finally:
        over.set()
        reaper.join()
        for each in members:
            each.poll()


def _end_uncontained(members: Sequence[Process], grace: float) -> None:
    """Stop uncontained members. Only the children themselves are known, not their helpers."""
    for each in members:
        each.terminate()
    for each in members:
        with contextlib.suppress(subprocess.TimeoutExpired):
            each.wait(grace)
        if each.returncode is None:
            each.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                each.wait(stop_target.GRACE)


def release(mount: str, units: set[str]) -> None:
    """Remove paths owned by these scopes that have lost their last user."""
    with contextlib.suppress(StateError):
        if (state.directory() / "owned").is_dir():
            from scopekeeper.owned.release import release_due

            report = release_due(mount, only=lambda claim: claim.holder.unit in units)
            if report.problem:
                log.warning(report.problem)


def is_left(result: stop_target.Result) -> bool:
    """Return whether something lives on in what was to be stopped."""
    return result.outcome in ("remains", "refused")


def _words(member: Process | Launch | Birthplace, result: stop_target.Result) -> str:
    """Return a line that names the member and what is left of it."""
    if result.outcome == "refused":
        return f"{member.member} in {member.scope} was left alone: {result.problem}"
    left = ", ".join(
        f"pid {each.pid} ({each.command[:60]}) in state {each.state}" for each in result.remaining
    )
    return f"{member.member} in {member.scope} cannot be killed: {left or 'something'}"
