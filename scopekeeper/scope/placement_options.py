"""Where scopes go if not under the caller's own manager: by option, or by what the machine has."""

import posix

from scopekeeper.errors import (
    NO_RUN,
    READ_ONLY,
    READ_ONLY_IN_CONTAINER,
    ScopekeeperError,
    UnavailableError,
    UsageError,
)
from scopekeeper.kernel.proc import attribute, exists, is_read_only
from scopekeeper.scope.placement import Caller, Place, managed
from scopekeeper.systemd.units import answers, manager_uid, unit_at

FOLDER = "scopekeeper"
"""The folder that root makes for scopes without systemd."""
KEEPER_FOLDER = "scopekeeper-keeper"
"""The cgroup of a keeper without systemd, beside the scopes."""


def find(caller: Caller, wanted: str = "auto", *, outlives: bool = False) -> Place:
    """Return the place for new scopes; raises UnavailableError, UsageError."""
    if wanted == "auto":
        return _automatic(caller, outlives=outlives)
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
    """Return the placement set in the environment."""
    return posix.environ.get(b"SCOPEKEEPER_PLACEMENT", b"").decode("utf-8", "replace") or "auto"


def _automatic(caller: Caller, *, outlives: bool) -> Place:
    unit = caller.unit_path() if caller.is_main else ""
    if caller.uid and not outlives:
        unit = unit or caller.system_service()
    if unit and is_delegated(caller, unit):
        return Place(caller.mount, caller.mount + unit)
    if caller.uid == 0:
        if exists("/run/systemd/system"):
            return managed(caller, "system")
        return _folder(caller, folder_of_root(caller), make=True)
    if answers(caller.uid):
        return managed(caller, "user")
    delegated = _delegated_ancestor(caller)
    if delegated:
        return Place(caller.mount, delegated)
    text = f"no systemd manager at /run/user/{caller.uid} and no delegated cgroup"
    raise UnavailableError(f"{text} for uid {caller.uid}", *_remedy(caller))


def folder_of_root(caller: Caller) -> str:
    """Return the folder of root's scopes without systemd.

    It is at the top of the mount. In a container that shares the machine's cgroup namespace it is
    below the container's own cgroup, so that the container's end, pause and limits cover it.
    """
    if not exists("/run/systemd/system"):
        from scopekeeper.kernel.containers import shares_hierarchy

        if shares_hierarchy(caller.mount, caller.path):
            above = caller.scope_directory.rpartition("/")[0]
            if not above and caller.path.endswith(f"/{KEEPER_FOLDER}"):
                above = caller.directory.rpartition("/")[0]
            return above or f"{caller.directory}/{FOLDER}"
    return f"{caller.mount}/{FOLDER}"


def _remedy(caller: Caller) -> tuple[str, ...]:
    """Return how the caller can get a place; () if that is not known."""
    from scopekeeper.kernel.containers import without_systemd

    if without_systemd():
        if is_read_only(caller.mount):
            return (READ_ONLY_IN_CONTAINER,)
        return (f"as root in the container: {_delegation(caller.uid, caller.directory)}",)
    manager = f"{caller.mount}/user.slice/user-{caller.uid}.slice/user@{caller.uid}.service"
    if exists(manager):  # it runs, and its sockets are hidden from us
        return (NO_RUN,)
    if caller.is_main and caller.unit_path():
        return (f"set Delegate=yes in {unit_at(caller.unit_path())}",)
    return ()


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
            fix = (_writable(),) if is_read_only(caller.mount) else ()
            raise UnavailableError(f"cannot make {folder} ({error.strerror})", *fix) from None
    if not exists(folder + "/cgroup.controllers"):
        raise _not_a_cgroup(caller, folder)
    if not posix.access(folder, posix.W_OK) or not posix.access(
        folder + "/cgroup.procs", posix.W_OK
    ):
        if is_read_only(folder):
            raise UnavailableError(f"{folder} is read-only here", _writable())
        raise UnavailableError(
            f"{folder} may not be written by uid {caller.uid}",
            f"delegate it: {_delegation(caller.uid, folder)}",
        )
    _check_way(caller, folder)
    return Place(caller.mount, folder)


def _not_a_cgroup(caller: Caller, folder: str) -> UsageError:
    """Return why a folder that was named cannot hold scopes."""
    if exists(folder) or not folder.startswith(f"{caller.mount}/"):
        text = f"{folder or '/'} is not a cgroup2 directory"
        return UsageError(text, f"name one below {caller.mount}")
    return UsageError(f"the cgroup {folder} does not exist", f"make it first: mkdir -p {folder}")


def _check_way(caller: Caller, folder: str) -> None:
    """Raise UnavailableError if the kernel will refuse to move the caller into a folder.

    The caller has to be able to write to the ``cgroup.procs`` of the closest common ancestor of
    both cgroups (cgroups(7), delegation containment).
    """
    procs = f"{common_ancestor(caller, folder)}/cgroup.procs"
    if exists(procs) and not posix.access(procs, posix.W_OK):
        raise UnavailableError(
            f"uid {caller.uid} may not move a process from the cgroup {caller.path or '/'} to "
            f"{folder}: the kernel asks for write access to {procs}",
            f"chown {caller.uid} {procs}, or start the caller in a cgroup below {folder}",
        )


def common_ancestor(caller: Caller, folder: str) -> str:
    """Return the closest cgroup directory that is at or above the caller's own and a folder."""
    common = caller.mount
    own, wanted = caller.directory.split("/"), folder.split("/")
    for count in range(caller.mount.count("/") + 2, min(len(own), len(wanted)) + 1):
        if own[:count] != wanted[:count]:
            break
        common = "/".join(own[:count])
    return common


def _delegation(uid: int, folder: str) -> str:
    """Return the command with which root lets a user make cgroups in a folder."""
    files = ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads")
    return " ".join((f"chown {uid} {folder}", *(f"{folder}/{file}" for file in files)))


def _writable() -> str:
    """Return how a cgroup mount becomes writable."""
    from scopekeeper.kernel.containers import without_systemd

    return READ_ONLY_IN_CONTAINER if without_systemd() else READ_ONLY


def _delegated_ancestor(caller: Caller) -> str:
    """Return the highest writable cgroup at or above the caller's own, '' if there is none.

    In a rootless container that can be the top itself.
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
    """Return whether systemd delegates the cgroup of a service to the caller (``Delegate=yes``).

    The system manager marks it: ``user.delegate`` since systemd 251, ``trusted.delegate`` (root
    only) since 236. A user manager does not; ask it.
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
    """Return whether the manager started this main process of a service with SIGPIPE ignored.

    Python has reset it, so ask the manager; ``IgnoreSIGPIPE=yes`` is the default.
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
        return manager.service_setting(unit_at(unit_path), name)
