"""Where the caller runs, who owns what it starts, and where its scopes go.

On the hot path of ``run``: builtin modules only (``os`` alone costs 0.8 ms).

A folder of the cgroup2 hierarchy is named in two ways here: its *path* as /proc/PID/cgroup
has it, and its *directory*, the path below the mount point.
"""

import posix

from scopekeeper import names, records

SLICE = "scopekeeper.slice"
_MOUNTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")  # cgroup2 alone, and beside version 1
_ENODATA = 61
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


def read(path: str) -> str:
    """Read a small file of procfs, sysfs or cgroupfs whole; raises OSError.

    In small pieces: a large buffer costs more than what is read.
    """
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        raw = b""
        while chunk := posix.read(fd, 4096):
            raw += chunk
    finally:
        posix.close(fd)
    return raw.decode("utf-8", "surrogateescape")


def write(path: str, text: str) -> None:
    """Write one value to a file of cgroupfs; raises OSError."""
    fd = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC)
    try:
        posix.write(fd, text.encode("utf-8", "surrogateescape"))
    finally:
        posix.close(fd)


def make_cgroup(path: str) -> None:
    """Make a cgroup that we can use, whatever the umask; raises OSError."""
    posix.mkdir(path, 0o755)
    if not posix.access(path, posix.R_OK | posix.W_OK | posix.X_OK):
        posix.chmod(path, 0o755)


def exists(path: str) -> bool:
    """Tell whether there is something at path that we may look at."""
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


def home_of(uid: int) -> str:
    """Return the home of this process's user as the password database has it.

    ``$HOME`` counts only for a user who is not in there: ``sudo -E`` hands it on to root, and
    services do not have it. Returns '' where there is neither. Most users are in /etc/passwd, which
    is read in a tenth of the time that pwd takes to load and to ask.
    """
    number = str(uid)
    try:
        for line in read("/etc/passwd").split("\n"):
            fields = line.split(":")
            if len(fields) > 5 and fields[2] == number:  # passwd(5)
                return fields[5]
    except OSError:
        pass
    import pwd

    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:
        home = posix.environ.get(b"HOME", b"").decode("utf-8", "surrogateescape")
        return home if home.startswith("/") else ""


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


def boot_id() -> str:
    """Return the id of this boot; raises UnavailableError."""
    try:
        return read(_BOOT_ID).strip()
    except OSError as error:
        from scopekeeper.errors import UnavailableError

        raise UnavailableError(
            f"{_BOOT_ID} cannot be read ({error.strerror})",
            "let its service see all of /proc (ProcSubset=all)",
        ) from None


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


def open_lock(fd: int) -> int:
    """Open the file of a scope that launches share and stops take alone; fd is its directory.

    Raises OSError. It is one that only its user can open at all (mode 0200): whoever can read a
    directory can lock that, and keep everybody from the scope.
    """
    return posix.open("cgroup.kill", posix.O_WRONLY | posix.O_CLOEXEC, dir_fd=fd)


class Caller:
    """The process that asked: its cgroup, and the member of ours that it runs in, if any."""

    __slots__ = ("directory", "enclosing", "is_main", "mount", "path", "scope_directory", "uid")

    def __init__(self, *, for_child: bool = False) -> None:
        """Look around; raises LookupError where there is no cgroup2.

        for_child: what is to be contained is not this process but a child of it, which is never
        the main process of a service.
        """
        self.is_main = not for_child and is_main_process()
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
            try:
                first = cgroup_of("1")  # in a PID namespace of somebody's, not systemd
            except OSError:
                return ""  # its service may not see it
            return first.removesuffix("/init.scope") if first.endswith("/init.scope") else ""
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
    """Return the InvocationID of the unit at a cgroup path; '' where it is not active, or unknown.

    Its manager keeps a link for journald (since 239) from before a unit's first process until the
    unit is inactive. Where links cannot be seen, the attribute ``user.invocation_id`` tells, which
    the system's manager writes to the cgroup (since 251); but it stays with the cgroup, which
    outlives a unit that left processes behind (KillMode=process).
    """
    links = links_folder(unit_path)
    try:
        return posix.readlink(f"{links}/invocation:{unit_name(unit_path)}")
    except OSError:
        pass
    written = None
    try:
        if not exists(links):
            written = attribute(mount + unit_path, "user.invocation_id")
    except OSError:
        pass
    return written.decode("ascii", "replace") if written else ""


def links_folder(unit_path: str) -> str:
    """Return where the manager of a unit keeps links for its active units."""
    uid = manager_uid(unit_path)
    return f"/run/user/{uid}/systemd/units" if uid else "/run/systemd/units"


def unit_name(unit_path: str) -> str:
    """Return the name of the unit at a cgroup path.

    systemd puts ``_`` before what else were the name of a file there, as of memory.service.
    """
    name = unit_path.rpartition("/")[2]
    return name.removeprefix("_")


def manager_uid(path: str) -> str:
    """Return whose manager a cgroup path belongs to; '' for the system's."""
    return path.rpartition("/user@")[2].partition(".service/")[0] if "/user@" in path else ""


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


def find(caller: Caller, wanted: str = "auto", *, outlives: bool = False) -> Place:
    """Find the place for new scopes; raises UnavailableError, or UsageError on a wrong wish.

    A nested launch stays in the plain cgroup that its launcher was placed in, and below its
    limits; unless that is a service's, which the command is to outlive.
    """
    if wanted == "auto" and caller.scope_directory:
        enclosing = place_of(caller)
        if not enclosing.manager and not (outlives and enclosing.base.endswith(".service")):
            return enclosing
    if wanted == "auto" and not caller.is_main:
        if caller.uid == 0 and exists("/run/systemd/system"):  # sd_booted(3)
            return managed(caller, "system")
        if caller.uid and answers(caller.uid):
            return managed(caller, "user")
    from scopekeeper.launch import placement

    return placement.find(caller, wanted)


def is_main_process() -> bool:
    """Tell whether systemd itself started this process (SYSTEMD_EXEC_PID=, since 248)."""
    return posix.environ.get(b"SYSTEMD_EXEC_PID") == str(posix.getpid()).encode()


def answers(uid: int) -> bool:
    """Tell whether a user's manager is there to be asked."""
    return exists(f"/run/user/{uid}/systemd/private") or exists(f"/run/user/{uid}/bus")


def managed(caller: Caller, manager: str) -> Place:
    """Return the place where the ``system`` or the ``user`` manager makes the caller's scopes."""
    path = caller.manager_path()
    if manager == "user" and caller.uid == 0:  # root's own manager is not the system's
        path += "/user.slice/user-0.slice/user@0.service"
    return Place(caller.mount, f"{caller.mount}{path}/{SLICE}", manager, path)


class Owner:
    """Who answers for a member: a service (its unit and epoch) or else a bare process.

    One that has ended already owns what it left behind, so that it is found.
    """

    __slots__ = ("fields", "has_ended", "label", "unit", "unit_path")

    def __init__(self, fields: dict[str, str], *, has_ended: bool = False) -> None:
        self.fields = fields
        self.has_ended = has_ended
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


def find_owner(caller: Caller, named: str = "", parent: str = "") -> Owner:
    """Return the owner of what the caller starts: the process named by its pid, if one is.

    parent is the pid of who else is it where no service is; else it is the caller's own. Raises
    ValueError where there is no such process.
    """
    fields = {
        "BOOT": boot_id(),
        "NAMESPACES": namespaces(),
    }
    if named:
        return Owner(fields | _process(named))
    if caller.enclosing is not None:  # a nested run belongs to whom its launcher belongs to
        inherited = {k: v for k, v in caller.enclosing.items() if k.startswith("OWNER_")}
        if inherited:
            return Owner(fields | inherited)
    # a parent outside of our PID namespace reads as 0: then the namespace's first process owns
    parent = parent or str(posix.getppid() or 1)
    path = caller.unit_path()
    if path:
        epoch = epoch_of(caller.mount, path)
        if epoch or _has_gone(parent):
            fields["OWNER_UNIT"] = unit_name(path)
            fields["OWNER_EPOCH"] = epoch or "ended"
            fields["OWNER_CGROUP"] = path
            return Owner(fields, has_ended=not epoch)
    return Owner(fields | _process(parent))


def _has_gone(parent: str) -> bool:
    """Tell whether systemd is a process's parent, which it becomes of who has lost his own."""
    try:
        return cgroup_of(parent).endswith("/init.scope")
    except (OSError, LookupError):
        return False


def _process(pid: str) -> dict[str, str]:
    if not pid.isdigit():
        raise ValueError(f"--owner {pid}: name the process by its pid")
    try:
        return {"OWNER_PID": pid, "OWNER_START": start_time(pid)}
    except OSError:
        raise ValueError(f"--owner {pid}: there is no such process") from None
