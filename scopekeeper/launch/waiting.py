"""What a launch does about a scope that is there and cannot be joined just now."""

import posix
import time

from scopekeeper import records
from scopekeeper.errors import ConflictError, ForeignError
from scopekeeper.launch.member import ABSENT, WAIT
from scopekeeper.launch.place import Place, attribute, read, start_time

_PATIENCE = {"foreign": 15.0, "stopping": 150.0}
"""Seconds to wait for a record that its maker has yet to write, and for a stop by somebody else
(systemd's own may take 90); for all else:"""
_SETUP_SECONDS = 60.0


def wait(directory: str, reason: str, waited: float) -> None:
    """Wait a moment; raises ConflictError or ForeignError when that was enough."""
    if reason == "stopping":
        _finish_stale_stop(directory)
    if waited > _PATIENCE.get(reason, _SETUP_SECONDS):
        raise _gave_up(directory, directory.rpartition("/")[2], reason, waited)
    time.sleep(0.001 if waited < 0.1 else 0.01)


def without_record(directory: str, place: Place) -> tuple[str, str]:
    """Decide what to do about a scope of our name without a record."""
    if _is_used(directory):
        return WAIT, "foreign"  # or its maker has yet to write it
    # its maker was killed before it could: a folder is ours to make again, a unit is let go of
    return (WAIT, "empty") if place.manager else (ABSENT, "")


def without_members(fd: int, directory: str, place: Place) -> tuple[str, str]:
    """Decide what to do about a scope with our record and no living member."""
    if "populated 1" in read(f"{directory}/cgroup.events"):
        return WAIT, "setup"  # its maker is on the way to a leaf
    if place.manager:
        return WAIT, "empty"  # systemd is about to remove it
    from scopekeeper.launch.folder import remove_empty

    return (ABSENT, "") if remove_empty(fd, directory) else (WAIT, "setup")


def _is_used(directory: str) -> bool:
    """Tell whether there is a process or a folder inside."""
    if read(f"{directory}/cgroup.procs"):
        return True
    return any(entry.startswith("m-") for entry in posix.listdir(directory))


def _finish_stale_stop(directory: str) -> None:
    """Bring a stop to its end whose own process was killed; leave one alone that goes on."""
    try:
        raw = attribute(directory)
        fields = records.loads(raw or b"")
        if start_time(fields["STOPPER_PID"]) == fields["STOPPER_START"]:
            return
    except FileNotFoundError as error:
        if error.filename == directory:
            return  # the scope is gone; else its stopper is
    except (OSError, LookupError, records.RecordError):
        return
    from scopekeeper import launch
    from scopekeeper.stop import finish

    warnings: list[str] = []
    finish(directory, warnings)
    for text in warnings:
        launch.say(f"warning: {text}")


def _gave_up(directory: str, unit: str, reason: str, waited: float) -> Exception:
    if reason == "foreign":
        return ForeignError(
            f"{unit} exists and has no record of ours; somebody else made it",
            "it is left alone; choose another --run, or look with: systemctl status",
        )
    told = {
        "stopping": "is still being stopped",
        "setup": "has no living member yet",
        "taken": "is known to systemd, but its cgroup is not there",
    }.get(reason, "is empty, but does not go away")
    return ConflictError(
        f"{unit} {told} after {waited:.0f} s",
        f"look with: scopekeeper ls; its cgroup is {directory}",
    )
