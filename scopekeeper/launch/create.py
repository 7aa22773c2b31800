"""Makes a scope around this process: a transient unit of a manager, or a folder of our own."""

import errno
import fcntl
import posix
import time

from scopekeeper import records
from scopekeeper.errors import ManagerError
from scopekeeper.launch.limits import limit_folder, warn_unlimited
from scopekeeper.launch.manager import CallError, Manager, scope_properties
from scopekeeper.launch.member import GONE, Member, Warnings, enter
from scopekeeper.launch.place import SLICE, Place, exists

_XATTR_CREATE = 1
_INFINITY = 2**64 - 1
"""How systemd writes infinity in a property of type t."""
_PROPERTIES = {
    "memory_max": "MemoryMax",
    "memory_high": "MemoryHigh",
    "tasks_max": "TasksMax",
    "cpu_weight": "CPUWeight",
    "ttl": "RuntimeMaxUSec",
    "grace": "TimeoutStopUSec",
}


def create(directory: str, member: Member, place: Place, warnings: Warnings) -> bool:
    """Make the scope and become its first member; False where another was faster."""
    if place.manager:
        return _create_unit(directory, member, place, warnings)
    return _create_folder(directory, member, place, warnings)


def _create_unit(directory: str, member: Member, place: Place, warnings: Warnings) -> bool:
    with Manager(place) as manager:
        try:
            bound_to = _start(manager, member, place)
        except CallError as error:
            if error.name != "UnitExists":
                raise
            # Another launcher was faster, or it is on its way out; or it failed and holds its
            # name, which reset-failed ends (and which does nothing to a unit that is well).
            if not exists(directory):
                manager.reset_failed(member.unit)
            return False
    posix.setxattr(directory, records.ATTRIBUTE, member.scope_record(bound_to))
    warn_unlimited(directory, member.request.limits, warnings)
    return enter(directory, member, place)


def _create_folder(directory: str, member: Member, place: Place, warnings: Warnings) -> bool:
    try:
        try:
            posix.mkdir(directory, 0o755)
        except FileExistsError:
            pass
        fd = posix.open(directory, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        posix.setxattr(directory, records.ATTRIBUTE, member.scope_record(""), _XATTR_CREATE)
        limit_folder(place.base, directory, member.request.limits, warnings)
        return enter(directory, member, place)
    except OSError as error:
        if error.errno in (*GONE, errno.EEXIST, errno.EAGAIN):
            return False  # another launcher, or a stop, was faster
        raise
    finally:
        posix.close(fd)


def remove_empty(fd: int, directory: str) -> bool:
    """Remove a folder in which nothing lives, so that it is made anew; fd is it, opened."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for entry in posix.listdir(directory):
            if entry.startswith("m-"):
                posix.rmdir(f"{directory}/{entry}")
        posix.rmdir(directory)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EBUSY, errno.ENOTEMPTY, *GONE):
            raise
        return False  # somebody is on the way in
    return True


def confirm(directory: str, member: Member, place: Place) -> None:
    """Make sure that systemd still has the scope that we joined; start it around us if not."""
    with Manager(place) as manager:
        while True:
            state = manager.unit_property(member.unit, "Unit", "ActiveState")
            if state == "active":
                return
            if state == "":
                try:
                    _start(manager, member, place)
                except CallError as error:
                    if error.name != "UnitExists":
                        raise
                else:
                    if enter(directory, member, place):
                        return
            time.sleep(0.001)
            if time.monotonic() > manager.deadline:
                raise ManagerError(
                    f"{member.unit} was emptied, and systemd does not start it again"
                )


def _start(manager: Manager, member: Member, place: Place) -> str:
    """Have the scope started around us; returns the unit that it is bound to, or ''."""
    request, owner = member.request, member.owner
    bound_to = ""
    if request.lifetime == "gateway" and owner.unit and place.manages(owner.unit_path):
        bound_to = owner.unit
    settings = {
        _PROPERTIES[name]: _INFINITY if value < 0 else value
        for name, value in (request.limits | request.durations).items()
    }
    session = "".join(c if c.isprintable() else "?" for c in request.session)
    description = f"scopekeeper: {session[:120]}, lane {request.lane[:60]}"
    manager.start_scope(member.unit, scope_properties(description, SLICE, bound_to, settings))
    return bound_to
