"""A child of this process as a member: born in its leaf, beside others that live in the scope.

It joins as ``run`` does (scopekeeper.launch.join), and never makes a scope: systemd moves the
process that asks for one into it, and a gateway must stay where it is.
"""

import contextlib
import errno
import os
from collections.abc import Callable

from scopekeeper.history import launch_ledger
from scopekeeper.kernel import cgroupfs
from scopekeeper.kernel.proc import start_time
from scopekeeper.launch import join as scope
from scopekeeper.launch import run
from scopekeeper.launch.member import GONE, JOINED, NewMember
from scopekeeper.launch.request import Request
from scopekeeper.scope import records
from scopekeeper.scope.owner import LaunchOwner
from scopekeeper.scope.placement import Caller, Place

Birth = Callable[[int, "Child"], int]
"""Starts a process in the cgroup that is open under a descriptor, and returns its pid."""


class Child(NewMember):
    """The child to start. Until it runs, PID and START in its record are those of this process."""

    __slots__ = ("birth", "directory", "pid", "warnings")
    joining = records.CHILD
    always_signs = True

    def __init__(
        self, request: Request, owner: LaunchOwner, birth: Birth, warnings: list[str]
    ) -> None:
        super().__init__(request, owner)
        self.birth = birth
        self.directory = ""
        """Its leaf, once it runs."""
        self.pid = 0
        self.warnings = warnings

    def arrive(self, path: str, place: Place) -> None:  # noqa: ARG002
        """Set the limits of the leaf at path, and start the child there."""
        directory, _, leaf = path.rpartition("/")
        if self.request.member_limits:
            from scopekeeper.launch.limits import limit_member

            limit_member(directory, leaf, self.request.member_limits, self.warnings)
        if self.request.oomd_preference:
            from scopekeeper.launch.oomd import make_candidate

            make_candidate(directory, leaf, self.request.oomd_preference, self.warnings)
        leaf_fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.pid = self.birth(leaf_fd, self)
        finally:
            os.close(leaf_fd)
        self.directory = path
        if self.request.oom_score:
            from scopekeeper.launch.oom_score import raise_to

            raise_to(self.request.oom_score, self.pid, self.warnings)

    def sign(self, directory: str) -> None:
        """Write the child into the leaf's record, unless it has ended and the leaf is removed."""
        try:
            self.record |= {"PID": str(self.pid), "START": start_time(self.pid)}
            super().sign(directory)
        except OSError as error:
            if error.errno not in (*GONE, errno.ESRCH):
                raise

    def leave(self, path: str, caller: Caller) -> bool:  # noqa: ARG002
        """Kill the child: systemd dropped the scope within the child's first milliseconds."""
        cgroupfs.kill(path)
        self.reap()
        return True

    def reap(self) -> None:
        """Reap the killed child."""
        with contextlib.suppress(ChildProcessError):  # reaped elsewhere, or SIGCHLD is ignored
            os.waitpid(self.pid, 0)
        self.pid, self.directory = 0, ""


def join(
    options: dict[str, str],
    command: str,
    environment: dict[bytes, bytes],
    birth: Birth,
    say: Callable[[str], None],
) -> Child | None:
    """Start a member in an existing scope; None where no scope can be joined just now.

    say reports at once what the launch waits for. Raises what birth raises, ScopekeeperError,
    ValueError, OSError, LookupError.
    """
    caller, warnings = Caller(for_child=True), list[str]()
    request, owner, where = run.plan(options, command, environment, caller, warnings)
    if request.gate:
        from scopekeeper.launch.gate import pass_gate

        pass_gate(request, where, say)
    try:
        return _join(request, owner, where, caller, birth, warnings)
    except scope.OtherOwnerError:
        request.run = request.run_beside(owner.label)
        return _join(request, owner, where, caller, birth, warnings)


def _join(
    request: Request,
    owner: LaunchOwner,
    where: Place,
    caller: Caller,
    birth: Birth,
    warnings: list[str],
) -> Child | None:
    child = Child(request, owner, birth, warnings)
    place, directory = scope.locate(child, caller, where)
    try:
        outcome, _ = scope.join(directory, child, place, caller, warnings)
    except BaseException:
        if child.pid:
            child.leave(child.directory, caller)
        raise
    if outcome != JOINED:
        return None
    run.warn_of_ignored(request, owner, warnings)
    fields = child.ledger_fields(directory[len(caller.mount) :])
    launch_ledger.append(launch_ledger.line(fields))
    return child
