"""Where the caller runs, who owns what it starts, and where its scopes go.

On the hot path of ``run``: builtin modules only (``os`` alone costs 0.8 ms).

A folder of the cgroup2 hierarchy is named in two ways here: its *path* as /proc/PID/cgroup
has it, and its *directory*, the path below the mount point.
"""

import posix

from scopekeeper import names, records

SLICE = "scopekeeper.slice"
FOLDER = "scopekeeper"
"""What we make at the top of a cgroup2 mount where root has no systemd."""

_MOUNTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")  # cgroup2 alone, and beside version 1
_ENODATA = 61


def read(path: str) -> str:
    """Read a small file of procfs, sysfs or cgroupfs whole; raises OSError."""
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return posix.read(fd, 65536).decode("utf-8", "surrogateescape")
    finally:
        posix.close(fd)


def write(path: str, text: str) -> None:
    """Write one value to a file of cgroupfs; raises OSError."""
    fd = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC)
    try:
        posix.write(fd, text.encode("utf-8", "surrogateescape"))
    finally:
        posix.close(fd)


def exists(path: str) -> bool:
    """Tell whether there is something at path that we may look at."""
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


def attribute(directory: str, name: str = records.ATTRIBUTE) -> bytes | None:
    """Read an extended attribute, None where there is none; raises FileNotFoundError."""
    try:
        return posix.getxattr(directory, name)
    except OSError as error:
        if error.errno == _ENODATA:
            return None
        raise


def cgroup_of(pid: str = "self") -> str:
    """Return the cgroup2 path of a process; raises OSError, LookupError without cgroup2."""
    text = read(f"/proc/{pid}/cgroup")
    at = text.find("0::")
    if at < 0:
        raise LookupError("no cgroup2 hierarchy")
    return text[at + 3 :].partition("\n")[0]


def start_time(pid: str) -> str:
    """Return when a process began, in clock ticks since boot (field 22 of proc_pid_stat(5))."""
    return read(f"/proc/{pid}/stat").rpartition(")")[2].split()[19]


def mount_point() -> str:
    """Return where the cgroup2 hierarchy is mounted; raises LookupError without one."""
    for mount in _MOUNTS:
        if exists(mount + "/cgroup.controllers"):
            return mount
    for line in read("/proc/self/mountinfo").splitlines():
        fields, _, source = line.partition(" - ")
        if source.startswith("cgroup2 "):
            return fields.split()[4]
    raise LookupError("no cgroup2 hierarchy is mounted")


class Caller:
    """The process that asked: its cgroup, and the member of ours that it runs in, if any."""

    __slots__ = ("directory", "enclosing", "mount", "path", "scope_directory", "uid")

    def __init__(self) -> None:
        """Look around; raises LookupError where there is no cgroup2."""
        self.uid = posix.getuid()
        self.mount = mount_point()
        self.path = cgroup_of().rstrip("/")
        self.directory = self.mount + self.path
        self.enclosing: dict[str, str] | None = None
        self.scope_directory = ""
        scope, _, leaf = self.directory.rpartition("/")
        if leaf.startswith("m-") and names.parse_leaf(leaf):
            raw = attribute(self.directory)
            if raw is not None and names.parse_unit(scope.rpartition("/")[2]):
                self.enclosing = records.loads(raw)
                self.scope_directory = scope

    def manager_path(self) -> str:
        """Return the path of the user's manager, or the prefix of the system's ('' mostly)."""
        if self.uid == 0:
            return cgroup_of("1").removesuffix("/init.scope").rstrip("/")
        service = f"/user@{self.uid}.service"
        at = self.path.find(service + "/")
        if at >= 0:
            return self.path[: at + len(service)]
        return f"/user.slice/user-{self.uid}.slice{service}"

    def unit_path(self) -> str:
        """Return the path of the service that the caller runs in; '' where there is none."""
        end = self.path.rfind(".service/")
        if self.path.endswith(".service"):
            path = self.path
        elif end >= 0:
            path = self.path[: end + 8]
        else:
            return ""
        # the manager of a user is a service too; a login session or a scope owns nothing
        return "" if path.rpartition("/")[2].startswith("user@") else path


def epoch_of(mount: str, unit_path: str) -> str:
    """Return the InvocationID of the unit at a cgroup path, '' where it cannot be read.

    The system's manager writes it to the cgroup (``user.invocation_id``, since 251); a user's
    manager sets no attributes. Both keep a link for journald (since 239).
    """
    try:
        written = attribute(mount + unit_path, "user.invocation_id")
        if written:
            return written.decode("ascii", "replace")
        uid = manager_uid(unit_path)
        folder = f"/run/user/{uid}/systemd" if uid else "/run/systemd"
        return posix.readlink(f"{folder}/units/invocation:{unit_path.rpartition('/')[2]}")
    except OSError:
        return ""


def manager_uid(path: str) -> str:
    """Return whose manager a cgroup path belongs to; '' for the system's."""
    return path.rpartition("/user@")[2].partition(".service/")[0] if "/user@" in path else ""


def is_delegated(caller: Caller, unit_path: str) -> bool:
    """Tell whether systemd handed the cgroup of a service over to the caller (``Delegate=yes``).

    The system's manager marks it: ``user.delegate`` since 251, ``trusted.delegate`` (root only)
    since 236. A user's manager does not, and has to be asked.
    """
    directory = caller.mount + unit_path
    if manager_uid(unit_path):
        from scopekeeper.launch.manager import Manager

        manager_path = unit_path[: unit_path.rindex(".service/") + 8]
        with Manager(Place(caller.mount, "", "user", manager_path)) as manager:
            unit = unit_path.rpartition("/")[2]
            return manager.unit_property(unit, "Service", "Delegate") == "yes"
    for name in ("user.delegate", "trusted.delegate"):
        try:
            if attribute(directory, name) == b"1":
                return posix.stat(directory).st_uid == caller.uid
        except OSError:
            continue
    return False


class Place:
    """A folder that holds scopes, and the manager that makes them there ('' for none)."""

    __slots__ = ("base", "manager", "manager_path", "mount", "uid")

    def __init__(self, mount: str, base: str, manager: str = "", manager_path: str = "") -> None:
        self.mount = mount
        self.base = base
        self.manager = manager
        self.manager_path = manager_path
        self.uid = posix.getuid()

    def __str__(self) -> str:
        return f"the {self.manager} manager" if self.manager else f"cgroup {self.base}"

    def manages(self, unit_path: str) -> bool:
        """Tell whether the unit at this path belongs to the manager of this place."""
        if not self.manager or not unit_path.startswith(self.manager_path + "/"):
            return False
        return "/user@" not in unit_path[len(self.manager_path) :]

    def path(self, directory: str) -> str:
        """Return the cgroup path of a directory."""
        return directory[len(self.mount) :]


def find(caller: Caller, wanted: str = "auto") -> Place:
    """Find the place for new scopes; raises UnavailableError, or UsageError on a wrong wish."""
    if wanted == "auto":
        return _automatic(caller)
    if wanted == "system":
        if caller.uid != 0:
            raise _usage("--placement system needs root; use user, or run it as root")
        return _managed(caller, "system")
    if wanted == "user":
        return _managed(caller, "user")
    if wanted.startswith("cgroup:"):
        return _folder(caller, wanted[7:])
    raise _usage(f"unknown placement {wanted!r}; use auto, user, system or cgroup:PATH")


def manager_of(scope_path: str) -> str:
    """Return who made the scope at this cgroup path: ``system``, ``user``, or '' for us."""
    folder = scope_path.rpartition("/")[0]
    if not folder.endswith("/" + SLICE):
        return ""
    return "user" if "/user@" in folder else "system"


def place_of(caller: Caller) -> Place:
    """Return the place of the scope that the caller runs in: a nested launch stays there."""
    base = caller.scope_directory.rpartition("/")[0]
    manager = manager_of(caller.scope_directory[len(caller.mount) :])
    path = base[len(caller.mount) : -len(SLICE) - 1] if manager else ""
    return Place(caller.mount, base, manager, path)


def _automatic(caller: Caller) -> Place:
    unit = caller.unit_path()
    if unit and _is_main_process() and is_delegated(caller, unit):
        return Place(caller.mount, caller.mount + unit)
    if caller.uid == 0:
        if exists("/run/systemd/system"):  # sd_booted(3)
            return _managed(caller, "system")
        return _folder(caller, f"{caller.mount}/{FOLDER}", make=True)
    if _answers(caller.uid):
        return _managed(caller, "user")
    delegated = _delegated_ancestor(caller)
    if delegated:
        return Place(caller.mount, delegated)
    raise _unavailable(
        f"no systemd manager at /run/user/{caller.uid} and no delegated cgroup for uid {caller.uid}"
    )


def _is_main_process() -> bool:
    """Tell whether systemd itself started this process (SYSTEMD_EXEC_PID=, since 248)."""
    return posix.environ.get(b"SYSTEMD_EXEC_PID") == str(posix.getpid()).encode()


def _answers(uid: int) -> bool:
    return exists(f"/run/user/{uid}/systemd/private") or exists(f"/run/user/{uid}/bus")


def _managed(caller: Caller, manager: str) -> Place:
    if manager == "system" and not exists("/run/systemd/system"):
        raise _unavailable("systemd is not running as PID 1")
    if manager == "user" and not _answers(caller.uid):
        raise _unavailable(f"no systemd user manager at /run/user/{caller.uid}")
    path = caller.manager_path() if (caller.uid or manager == "system") else _roots_own(caller)
    return Place(caller.mount, f"{caller.mount}{path}/{SLICE}", manager, path)


def _roots_own(caller: Caller) -> str:
    """Return the path of root's own user manager, which is not the system's."""
    return f"{caller.manager_path()}/user.slice/user-0.slice/user@0.service"


def _folder(caller: Caller, folder: str, *, make: bool = False) -> Place:
    if not folder.startswith("/"):
        raise _usage(f"--placement cgroup:{folder}: the path must be absolute")
    folder = folder.rstrip("/")
    if make and not exists(folder):
        try:
            posix.mkdir(folder, 0o755)
        except FileExistsError:
            pass
        except OSError as error:
            raise _unavailable(f"cannot make {folder} ({error.strerror})") from None
    if not exists(folder + "/cgroup.controllers"):
        raise _usage(f"{folder} is not a cgroup2 directory; name one below {caller.mount}")
    if not posix.access(folder, posix.W_OK) or not posix.access(
        folder + "/cgroup.procs", posix.W_OK
    ):
        raise _unavailable(
            f"{folder} may not be written by uid {caller.uid}",
            f"delegate it: chown {caller.uid} {folder} {folder}/cgroup.procs "
            f"{folder}/cgroup.subtree_control",
        )
    return Place(caller.mount, folder)


def _delegated_ancestor(caller: Caller) -> str:
    """Return the highest cgroup at or above the caller's own that is its to write; '' if none."""
    found = ""
    directory = caller.scope_directory.rpartition("/")[0] or caller.directory
    while len(directory) > len(caller.mount):
        if not (
            posix.access(directory, posix.W_OK)
            and posix.access(directory + "/cgroup.procs", posix.W_OK)
        ):
            break
        found = directory
        directory = directory.rpartition("/")[0]
    return found


class Owner:
    """Who answers for a member: a service (its unit and epoch) or else a bare process."""

    __slots__ = ("fields", "label", "unit", "unit_path")

    def __init__(self, fields: dict[str, str]) -> None:
        self.fields = fields
        self.unit = fields.get("OWNER_UNIT", "")
        self.unit_path = fields.get("OWNER_CGROUP", "")
        self.label = self.unit or f"pid-{fields['OWNER_PID']}"


def namespaces() -> str:
    """Return the PID and cgroup namespaces in which the owner's number and path mean something."""
    return (
        posix.readlink("/proc/self/ns/pid")[5:-1]
        + "/"
        + posix.readlink("/proc/self/ns/cgroup")[8:-1]
    )


def find_owner(caller: Caller, named: str = "") -> Owner:
    """Return the owner of what the caller starts: the process named by its pid, if one is.

    Raises UsageError where there is no such process.
    """
    fields = {
        "BOOT": read("/proc/sys/kernel/random/boot_id").strip(),
        "NAMESPACES": namespaces(),
    }
    if named:
        return Owner(fields | _process(named))
    if caller.enclosing is not None:  # a nested run belongs to whom its launcher belongs to
        inherited = {k: v for k, v in caller.enclosing.items() if k.startswith("OWNER_")}
        if inherited:
            return Owner(fields | inherited)
    path = caller.unit_path()
    if path:
        epoch = epoch_of(caller.mount, path)
        if epoch:
            fields["OWNER_UNIT"] = path.rpartition("/")[2]
            fields["OWNER_EPOCH"] = epoch
            fields["OWNER_CGROUP"] = path
            return Owner(fields)
    # a parent outside of our PID namespace reads as 0: then the namespace's first process owns
    return Owner(fields | _process(str(posix.getppid() or 1)))


def _process(pid: str) -> dict[str, str]:
    if not pid.isdigit():
        raise _usage(f"--owner {pid}: name the process by its pid")
    try:
        return {"OWNER_PID": pid, "OWNER_START": start_time(pid)}
    except OSError:
        raise _usage(f"--owner {pid}: there is no such process") from None


def _usage(message: str) -> Exception:
    from scopekeeper.errors import UsageError

    return UsageError(message)


def _unavailable(message: str, hint: str = "") -> Exception:
    from scopekeeper.errors import UnavailableError

    return UnavailableError(message, hint) if hint else UnavailableError(message)
