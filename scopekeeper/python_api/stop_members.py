"""Stops members that this process started, and proves it."""

import contextlib
import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence

from scopekeeper import state
from scopekeeper.errors import RemainsError, StateError
from scopekeeper.kernel import cgroupfs
from scopekeeper.kernel.proc import mount_point
from scopekeeper.kernel.usage import describe
from scopekeeper.launch.leave_scope import step_aside
from scopekeeper.lifecycle import observe, stop, stop_target
from scopekeeper.python_api import launched_members, remains
from scopekeeper.python_api.birthplace import Birthplace
from scopekeeper.python_api.launcher import Launch
from scopekeeper.python_api.process import Process, log
from scopekeeper.scope import record_parser, records
from scopekeeper.scope.launched import key_of
from scopekeeper.scope.reason import Cause, Reason

_PAUSE = 0.01
_ROUNDS = 64
"""How often to look for members that were launched by members which were stopped just now."""


def end(
    members: Sequence[Process | Launch | Birthplace], *, grace: float | None, reason: str
) -> list[stop_target.Result]:
    """Stop members, each with all that it has left in its leaf, and reap them.

    Also what they launched through scopekeeper. A Launch or a Birthplace is a member that something
    else reaps. ``grace`` is the seconds between SIGTERM and SIGKILL, None for that of the scopes.
    Returns one result for each contained member; raises RemainsError.
    """
    contained = [each for each in members if each.directory]
    children = [each for each in contained if isinstance(each, Process)]
    results: list[stop_target.Result] = []
    if contained:
        mount = mount_point()
        results = _stop([_target(each, mount, grace) for each in contained], children, reason)
        results += _stop_launched(contained, children, grace, reason)
        release(mount, {each.target.unit for each in results})
    uncontained = [each for each in members if isinstance(each, Process) and not each.directory]
    _end_uncontained(uncontained, stop_target.GRACE if grace is None else grace)
    others = [
        f"pid {each.pid} ({describe(each.pid)[:60]}), which was started as {each.member}, lives in "
        f"{cgroup}"
        for each in children
        if (cgroup := launched_members.lives_elsewhere(each)) and not _is_named(each.pid, results)
    ]
    others += [f"pid {each.pid} cannot be killed" for each in uncontained if each.poll() is None]
    remains.check(results, others)
    return results


def _stop(
    targets: list[stop_target.Target], children: Sequence[Process], reason: str
) -> list[stop_target.Result]:
    """Stop targets, and reap children meanwhile."""
    warnings: list[str] = []

    def stopping() -> list[stop_target.Result]:
        return stop.stop(
            targets,
            causes=[Cause(Reason.STOPPED, reason)] * len(targets),
            warnings=warnings,
            step_out=step_aside,
            asker=observe.stopper(os.getpid()),
        )

    results = _reaping(children, stopping)
    for text in warnings:
        log.warning(text)
    return results


def _stop_launched(
    launchers: Sequence[Process | Launch | Birthplace],
    children: Sequence[Process],
    grace: float | None,
    reason: str,
) -> list[stop_target.Result]:
    """Stop what members launched through scopekeeper, and what that launched, until none lives."""
    known = {key_of(each.directory) for each in launchers}
    results: list[stop_target.Result] = []
    mount = mount_point()
    for _ in range(_ROUNDS):
        found = launched_members.find(known, children, mount)
        targets = [stop_target.target_of(each, grace, as_judged=True) for each in found]
        targets = [each for each in targets if key_of(each.directory) not in known]
        if not targets:
            break
        results += _stop(targets, children, reason)
        known.update(key_of(each.directory) for each in targets)
    return results


def _is_named(pid: int, results: Sequence[stop_target.Result]) -> bool:
    """Return whether a result names a process already."""
    return any(
        pid in [*(x.pid for x in each.remaining), *(x.pid for x in each.escaped)]
        for each in results
    )


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


def not_over(members: Sequence[Process], *, least: int = 0) -> list[Process]:
    """Return the members that have not ended, or have left something: in a leaf, or launched.

    To find the latter takes a look at all scopes: with fewer than ``least`` to forget, return all.
    """
    over = {each for each in members if is_over(each)}
    if len(over) < least:
        return list(members)
    launchers = frozenset[str]()
    if any(each.directory for each in over):
        launchers = launched_members.launchers_of_living(mount_point())
    return [each for each in members if each not in over or key_of(each.directory) in launchers]


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
