"""What a launch does about a scope that exists but cannot be joined yet."""

import posix
import time

from scopekeeper.errors import ConflictError, ForeignError, ManagerError
from scopekeeper.kernel.proc import attribute, comm, read, runs, start_time
from scopekeeper.launch import program
from scopekeeper.launch.member import ABSENT, WAIT
from scopekeeper.scope import names, record_parser, records
from scopekeeper.scope.model import command_to_end
from scopekeeper.scope.placement import Place, manager_of
from scopekeeper.systemd.units import epoch_of

PATIENCE = {"foreign": 15.0, "stopping": 150.0}
"""Seconds to wait for a record that the scope's maker has yet to write, and for another's stop
(systemd's own may take 90); _SETUP_SECONDS for everything else."""
_SETUP_SECONDS = 60.0
_TELL_SECONDS = 1.0
"""After how long to say whom it waits for, and how often to look whether that is in vain."""
_LEFT_SECONDS, _STUCK_SECONDS = 0.1, 2.0
"""After how long an empty scope counts as forgotten by systemd, so that it can be made again, and
as stuck, so that systemd is asked to stop it."""


class Patience:
    """How long a launch has waited for a scope, and for how long the scope has been empty."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._began = time.monotonic()
        self._life, self._empty_since = (0, ""), 0.0
        self._looked = 0.0
        """How long it had waited when it last looked what it waits for."""

    def is_left_over(self, reason: str, place: Place) -> bool:
        """Return whether one life of the scope stays empty; call it on every attempt.

        Scopes of one name may come and go, and each may be seen empty for a moment.
        """
        life = _life(self._directory, place) if reason == "empty" else (0, "")
        now = time.monotonic()
        if life != self._life:
            self._life, self._empty_since = life, now
        return life != (0, "") and now - self._empty_since > _LEFT_SECONDS

    def have_it_removed(self, place: Place) -> None:
        """Have systemd let go of that life if it had the time to do so by itself.

        systemd keeps a scope forever whose only process was killed while it was moved in: no change
        of ``populated`` follows (seen with 252 and 257).
        """
        now = time.monotonic()
        if now - self._empty_since > _STUCK_SECONDS:
            self._empty_since = now  # ask again only after another pause
            from scopekeeper.systemd import calls

            try:
                calls.let_go(place.manager, self._life[1], self._directory)
            except ManagerError:
                pass  # the launch asks for the scope next, which waits for an absent manager

    def wait(self, reason: str) -> None:
        """Wait a moment; raises ConflictError or ForeignError after the patience is over."""
        waited = time.monotonic() - self._began
        if reason == "stopping":
            _finish_stale_stop(self._directory)
        if waited > self._looked + _TELL_SECONDS:
            _raise_if_obstructed(self._directory)
            if not self._looked:
                program.say(f"waiting for {_awaited(self._directory, reason)}")
            self._looked = waited
        if waited > PATIENCE.get(reason, _SETUP_SECONDS):
            raise _gave_up(self._directory, self._directory.rpartition("/")[2], reason, waited)
        time.sleep(0.001 if waited < 0.1 else 0.01)


def _awaited(directory: str, reason: str) -> str:
    """Return whom or what a launch waits for, in words."""
    unit = directory.rpartition("/")[2]
    if reason == "stopping":
        mark = _mark(directory)
        if mark is not None and mark.pid and runs(mark.pid, mark.start_time or 0):
            return f"process {mark.pid} ({comm(mark.pid)}), which stops {unit}"
        return f"the stop of {unit}"
    return {
        "foreign": f"the record of {unit}, which its maker has yet to write",
        "setup": f"the process that makes {unit}",
        "empty": f"systemd, which is about to remove {unit}: nothing lives in it",
    }.get(reason, f"systemd, which makes or removes {unit}")


def _raise_if_obstructed(directory: str) -> None:
    """Raise ConflictError if an empty scope cannot be removed, so that waiting is in vain."""
    from scopekeeper.kernel import cgroupfs

    found = None if cgroupfs.is_populated(directory) else cgroupfs.obstacle(directory)
    if found is not None:
        unit = directory.rpartition("/")[2]
        raise ConflictError(f"{unit} is empty but stays", cgroupfs.how_to_remove(*found))


def _mark(directory: str) -> "record_parser.StopMark | None":
    """Return the mark of a stop in the record of a scope; None if it has none that we can read."""
    try:
        return record_parser.stop_mark(attribute(directory, records.ATTRIBUTE) or b"")
    except (OSError, LookupError, records.RecordError):
        return None


def _life(directory: str, place: Place) -> tuple[int, str]:
    """Return the inode and invocation ID, which another scope of that name does not have."""
    try:
        inode = posix.stat(directory).st_ino
    except OSError:
        return 0, ""
    return inode, epoch_of(place.mount, directory[len(place.mount) :])


def without_record(directory: str, place: Place) -> tuple[str, str]:
    """Decide what to do about a scope of our name without a record."""
    if _is_used(directory):
        return WAIT, "foreign"  # or its maker has yet to write the record
    # its maker was killed before it could: make a plain cgroup again, have a unit stopped
    return (WAIT, "empty") if place.manager else (ABSENT, "")


def without_members(lock: int, directory: str, place: Place) -> tuple[str, str]:
    """Decide what to do about a scope with our record and no living member."""
    if "populated 1" in read(f"{directory}/cgroup.events"):
        _finish_stale_spawns(directory)
        return WAIT, "setup"  # its maker is on the way to a leaf
    if place.manager:
        return WAIT, "empty"  # systemd is about to remove it
    from scopekeeper.launch.create_cgroup import remove_empty

    return (ABSENT, "") if remove_empty(lock, directory) else (WAIT, "setup")


def _finish_stale_spawns(directory: str) -> None:
    """Complete the record of a child whose gateway was killed before it could write it."""
    for entry in posix.listdir(directory):
        if not entry.startswith("m-"):
            continue
        leaf = f"{directory}/{entry}"
        try:
            raw = attribute(leaf, records.ATTRIBUTE) or b""
            found = record_parser.member(raw, entry)
            if found.joining != records.CHILD or runs(found.pid, found.start_time):
                continue
            record = records.loads(raw)
            pids = read(f"{leaf}/cgroup.procs").split()
            began, pid = min((int(start_time(pid)), pid) for pid in pids)
            record |= {"PID": pid, "START": str(began), "JOINING": ""}
            posix.setxattr(leaf, records.ATTRIBUTE, records.dumps(record))
        except (OSError, ValueError):  # it ended meanwhile, or the record is damaged
            continue


def _is_used(directory: str) -> bool:
    """Return whether the scope has a process or a leaf."""
    if read(f"{directory}/cgroup.procs"):
        return True
    return any(entry.startswith("m-") for entry in posix.listdir(directory))


def _finish_stale_stop(directory: str) -> None:
    """Finish a stop whose process was killed; leave a running stop alone."""
    found = _mark(directory)
    try:
        if found is None or found.pid is None or runs(found.pid, found.start_time or 0):
            return
    except OSError:
        return
    from scopekeeper.launch import leave_scope
    from scopekeeper.lifecycle.unfinished_stops import finish

    warnings: list[str] = []
    finish(directory, warnings, leave_scope.step_aside)
    for text in warnings:
        program.say(f"warning: {text}")


def how_to_end(directory: str) -> str:
    """Return the shell command that ends the scope at directory without its record."""
    # a directory names its manager as its cgroup path does, whatever the mount point
    return command_to_end(directory, manager_of(directory))


def refuse_identity(directory: str, unit: str, said: tuple[str, str, str]) -> None:
    """Raise the error for a scope whose record names another identity."""
    if names.unit_name(*said) == unit:
        raise ConflictError(
            f"the scope {unit} belongs to another session whose name was cut to the same",
            "give one of them a --run",
        )
    raise ForeignError(
        "its scope is forged: the record there says that it is of another session",
        f"it is left alone; choose another --run, or end it: {how_to_end(directory)}",
    )


def _gave_up(directory: str, unit: str, reason: str, waited: float) -> Exception:
    if reason == "foreign":
        return ForeignError(
            f"{unit} exists and has no record of ours; somebody else made it",
            "it is left alone; choose another --run, or look with: systemctl status",
        )
    state = {
        "stopping": "is still being stopped",
        "setup": "has no living member yet",
        "taken": "is known to systemd, but its cgroup is not there",
    }.get(reason, "is empty, but does not go away")
    return ConflictError(
        f"{unit} {state} after {waited:.0f} s",
        f"look with: scopekeeper ls; its cgroup is {directory}",
    )
