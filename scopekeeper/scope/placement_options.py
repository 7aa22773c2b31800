"""Where scopes go when it is not simply the caller's own manager: by wish, or by what there is."""

import posix

from scopekeeper.errors import ScopekeeperError, UnavailableError, UsageError
from scopekeeper.kernel.proc import attribute, exists
from scopekeeper.scope.placement import Caller, Place, managed
from scopekeeper.systemd.units import answers, manager_uid, unit_at

FOLDER = "scopekeeper"
"""What we make at the top of a cgroup2 mount where root has no systemd."""


def find(caller: Caller, wanted: str = "auto") -> Place:
    """Find the place for new scopes; raises UnavailableError, or UsageError on a wrong wish."""
    if wanted == "auto":
        return _automatic(caller)
    if wanted == "system":
        if caller.uid != 0:
            raise UsageError("--placement system needs root; use user, or run it as root")
        return _managed(caller, "system")
    if wanted == "user":
        return _managed(caller, "user")
    if wanted.startswith("cgroup:"):
        return _folder(caller, wanted[7:])
    raise UsageError(f"unknown placement {wanted!r}; use auto, user, system or cgroup:PATH")


def wanted() -> str:
    """Return the placement that the environment asks for."""
    return posix.environ.get(b"SCOPEKEEPER_PLACEMENT", b"").decode("utf-8", "replace") or "auto"


def _automatic(caller: Caller) -> Place:
    unit = caller.unit_path()
    if unit and caller.is_main and is_delegated(caller, unit):
        return Place(caller.mount, caller.mount + unit)
    if caller.uid == 0:
        if exists("/run/systemd/system"):
            return managed(caller, "system")
        return _folder(caller, f"{caller.mount}/{FOLDER}", make=True)
    if answers(caller.uid):
        return managed(caller, "user")
    delegated = _delegated_ancestor(caller)
    if delegated:
        return Place(caller.mount, delegated)
    raise UnavailableError(
        f"no systemd manager at /run/user/{caller.uid} and no delegated cgroup for uid {caller.uid}"
    )


def _managed(caller: Caller, manager: str) -> Place:
    if manager == "system" and not exists("/run/systemd/system"):
        raise UnavailableError("systemd is not running as PID 1")
    if manager == "user" and not answers(caller.uid):
        raise UnavailableError(f"no systemd user manager at /run/user/{caller.uid}")
    return managed(caller, manager)


def _folder(caller: Caller, folder: str, *, make: bool = False) -> Place:
    if not folder.startswith("/"):
        raise UsageError(f"--placement cgroup:{folder}: the path must be absolute")
    folder = folder.rstrip("/")
    if make and not exists(folder):
        try:
            posix.mkdir(folder, 0o755)
        except FileExistsError:
            pass
        except OSError as error:
            raise UnavailableError(f"cannot make {folder} ({error.strerror})") from None
    if not exists(folder + "/cgroup.controllers"):
        raise UsageError(f"{folder} is not a cgroup2 directory; name one below {caller.mount}")
    if not posix.access(folder, posix.W_OK) or not posix.access(
        folder + "/cgroup.procs", posix.W_OK
    ):
        raise UnavailableError(
            f"{folder} may not be written by uid {caller.uid}",
            f"delegate it: chown {caller.uid} {folder} {folder}/cgroup.procs "
            f"{folder}/cgroup.subtree_control",
        )
    return Place(caller.mount, folder)


def _delegated_ancestor(caller: Caller) -> str:
    """Return the highest cgroup at or above the caller's own that is its to write; '' if none.

    The top itself is one to write to in a container that a user without root was given.
    """
    found = ""
    directory = caller.scope_directory.rpartition("/")[0] or caller.directory
    while len(directory) >= len(caller.mount):
        if not (
            posix.access(directory, posix.W_OK)
            and posix.access(directory + "/cgroup.procs", posix.W_OK)
        ):
            break
        found = directory
        directory = directory.rpartition("/")[0]
    return found


def is_delegated(caller: Caller, unit_path: str) -> bool:
    """Tell whether systemd handed the cgroup of a service over to the caller (``Delegate=yes``).

    The system's manager marks it: ``user.delegate`` since 251, ``trusted.delegate`` (root only)
    since 236. A user's manager does not, and has to be asked.
    """
    directory = caller.mount + unit_path
    if manager_uid(unit_path):
        return _service_property(caller, unit_path, "Delegate") == "yes"
    for name in ("user.delegate", "trusted.delegate"):
        try:
            if attribute(directory, name) == b"1":
                return posix.stat(directory).st_uid == caller.uid
        except OSError:
            continue
    return False


def ignores_pipe() -> bool:
    """Tell whether this main process of a service was started with SIGPIPE ignored.

    Only the manager can tell any more; ``IgnoreSIGPIPE=yes`` is its default.
    """
    try:
        caller = Caller()
        return _service_property(caller, caller.unit_path(), "IgnoreSIGPIPE") != "no"
    except (ScopekeeperError, OSError, LookupError):
        return True


def _service_property(caller: Caller, unit_path: str, name: str) -> str:
    from scopekeeper.systemd.manager import Manager

    kind = "user" if manager_uid(unit_path) else "system"
    with Manager(kind, caller.uid) as manager:
        return manager.unit_property(unit_at(unit_path), "Service", name)
