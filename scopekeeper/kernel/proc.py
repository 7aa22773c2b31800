"""procfs: processes, this boot, mounts; and the small files of cgroupfs.

On the hot path of ``run``: builtin modules only (``os`` alone costs 0.8 ms).
"""

import posix
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_CGROUP2 = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")  # cgroup2 alone, and beside version 1
_EACCES, _ENODATA = 13, 61
_UUID_LENGTH = 36
_ST_RDONLY = 1
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
HIDDEN = "it is hidden (hidepid=, ProtectProc=)"
_ENVIRONMENT_MAX = 6 << 20
"""Bytes that Linux allows (bprm_stack_limits); prctl(2) lets a process point to more."""


def read(path: str) -> str:
    """Read a small file of procfs, sysfs or cgroupfs whole; raises OSError."""
    return _read(path).decode("utf-8", "surrogateescape")


def _read(path: str, piece: int = 4096, most: int = 1 << 62) -> bytes:
    """Read about this many bytes in pieces; a large buffer costs more than a small file."""
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    pieces = []
    try:
        while most > 0 and (chunk := posix.read(fd, piece)):
            pieces.append(chunk)
            most -= len(chunk)
    finally:
        posix.close(fd)
    return b"".join(pieces)


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
    """Return whether path exists and we may look at it."""
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


def is_read_only(path: str) -> bool:
    """Return whether path is on a read-only mount, as in a service with ProtectControlGroups=."""
    return bool(posix.statvfs(path).f_flag & _ST_RDONLY)


def attribute(directory: str, name: str) -> bytes | None:
    """Return an extended attribute, None if it is not set; raises OSError."""
    try:
        return posix.getxattr(directory, name)
    except OSError as error:
        if error.errno == _ENODATA:
            return None
        raise


def pids() -> "Iterator[int]":
    """Yield the pid of every process that procfs shows."""
    return (int(entry) for entry in posix.listdir("/proc") if entry.isdecimal())


def cgroup_of(pid: "int | str" = "self") -> str:
    """Return the cgroup2 path of a process; raises OSError, LookupError without cgroup2."""
    text = read(f"/proc/{pid}/cgroup")
    at = text.find("0::")
    if at < 0:
        raise LookupError("no cgroup2 hierarchy")
    return text[at + 3 :].partition("\n")[0]


def comm(pid: int) -> str:
    """Return the short name of a process, '' if it cannot be read."""
    try:
        return read(f"/proc/{pid}/comm").removesuffix("\n")
    except OSError:
        return ""


def environment(pid: int) -> bytes:
    """Return the environment that a process was executed with, NUL between entries.

    Raises OSError.
    """
    return _read(f"/proc/{pid}/environ", 1 << 16, _ENVIRONMENT_MAX)


class Stat:
    """The fields of /proc/PID/stat that are used here (proc_pid_stat(5))."""

    __slots__ = ("_fields", "_head")

    def __init__(self, text: str) -> None:
        """Split the text after its last ``)``: the name in field 2 can hold any character."""
        self._head, _, fields = text.rpartition(")")
        self._fields = fields.split()

    @property
    def name(self) -> str:
        """The program's short name, or what the process calls itself (PR_SET_NAME)."""
        return self._head.partition("(")[2]

    @property
    def state(self) -> str:
        """One letter: R, S, D, Z and so on."""
        return self._fields[0]

    @property
    def parent(self) -> int:
        """The parent's pid; 0 if it is outside of our PID namespace."""
        return int(self._fields[1])

    @property
    def group(self) -> int:
        """The process group."""
        return int(self._fields[2])

    @property
    def session(self) -> int:
        """The pid that its session's leader has or had (setsid(2))."""
        return int(self._fields[3])

    @property
    def terminal(self) -> int:
        """The device of its controlling terminal; 0 without one, also after a hangup."""
        return int(self._fields[4])

    @property
    def has_ended(self) -> bool:
        """Whether no thread runs any more: a zombie, or about to be one.

        The state is that of the first thread, which can end before the others.
        """
        return self.state in "ZX" and int(self._fields[17]) < 2

    @property
    def has_executed(self) -> bool:
        """Whether it has executed a program since it was forked (no PF_FORKNOEXEC)."""
        return not int(self._fields[6]) & 0x40

    @property
    def start_time(self) -> int:
        """When the process began, in clock ticks since boot."""
        return int(self._fields[19])

    @property
    def cpu_ticks(self) -> int:
        """The CPU time of all its threads, in clock ticks."""
        return int(self._fields[11]) + int(self._fields[12])

    @property
    def resident_pages(self) -> int:
        """The pages of its memory that are resident, shared ones too."""
        return int(self._fields[21])

    @property
    def wait_status(self) -> int:
        """The status of a zombie as waitpid(2) reports it; 0 to readers that may not trace it."""
        return int(self._fields[49])


def stat_of(pid: "int | str") -> "Stat | None":
    """Return the stat of a process, None if there is no such process.

    Raises OSError if it cannot be read: that does not prove that the process has ended.
    """
    try:
        return Stat(read(f"/proc/{pid}/stat"))
    except (FileNotFoundError, ProcessLookupError):
        if _is_there(pid):
            raise PermissionError(_EACCES, HIDDEN, f"/proc/{pid}") from None
        return None


def _is_there(pid: "int | str") -> bool:
    """Return whether a process has this pid, even if procfs hides it (hidepid=, ProtectProc=).

    procfs then has no directory for processes of other users, and of ours that are not dumpable.
    kill(2) finds them: only ESRCH proves that there is none.
    """
    try:
        number = int(pid)
        if number > 0:
            posix.kill(number, 0)
    except (ProcessLookupError, OverflowError, ValueError):
        return False
    except OSError:
        pass
    return number > 0


def start_time(pid: "int | str") -> str:
    """Return when a process began, in clock ticks since boot, for a record; raises OSError."""
    return str(Stat(read(f"/proc/{pid}/stat")).start_time)


def runs(pid: "int | str", start_time: "int | str") -> bool:
    """Return whether the process that began at start_time still runs; a zombie does not.

    Raises OSError if it cannot be read.
    """
    stat = stat_of(pid)
    return stat is not None and str(stat.start_time) == str(start_time) and not stat.has_ended


def boot_id() -> str:
    """Return the id of this boot; raises UnavailableError."""
    try:
        return read(_BOOT_ID).strip()
    except OSError as error:
        return _boot_id_elsewhere(error)


def _boot_id_elsewhere(error: OSError) -> str:
    """Return the id of this boot where our /proc shows processes only (``ProcSubset=pid``).

    The kernel shows it in no other file, but systemd has the whole of /proc, and so has a user's
    own manager. ``/proc/PID/root`` leads to its files if we may trace it (proc_pid_root(5)): that
    takes its user and at least its capabilities.
    """
    uid = posix.getuid()
    try:
        managers = ["1"]
        if uid:
            manager = f"user.slice/user-{uid}.slice/user@{uid}.service/init.scope"
            managers = read(f"{mount_point()}/{manager}/cgroup.procs").split()
        for pid in managers:
            found = read(f"/proc/{pid}/root{_BOOT_ID}").strip()
            if len(found) == _UUID_LENGTH:
                return found
    except (OSError, LookupError):
        pass
    from scopekeeper.errors import UnavailableError

    more = "" if uid else ", or leave it CAP_SYS_PTRACE"
    raise UnavailableError(
        f"{_BOOT_ID} cannot be read ({error.strerror})",
        f"remove ProcSubset=pid from its service{more}",
    ) from None


def boottime() -> int:
    """Return microseconds since boot, suspension included: a clock that nobody can set."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


def mounts() -> "Iterator[tuple[str, str]]":
    """Yield each mount point with its file system's type, in the order of mounting.

    As this process sees them (proc_pid_mountinfo(5)); raises OSError.
    """
    for line in read("/proc/self/mountinfo").split("\n"):
        fields, _, source = line.partition(" - ")
        if source:
            yield _unescaped(fields.split(" ")[4]), source.partition(" ")[0]


def _unescaped(field: str) -> str:
    """Undo the octal escapes of space, tab, line feed and backslash."""
    head, *rest = field.split("\\")
    return head + "".join(chr(int(part[:3], 8)) + part[3:] for part in rest)


def mount_point() -> str:
    """Return where the cgroup2 hierarchy is mounted; raises LookupError without one."""
    for mount in _CGROUP2:
        if exists(mount + "/cgroup.controllers"):
            return mount
    for mount, kind in mounts():
        if kind == "cgroup2":
            return mount
    raise LookupError("no cgroup2 hierarchy is mounted")


def open_lock(fd: int) -> int:
    """Open the file that launches into a scope lock shared and stops lock alone; raises OSError.

    fd is the scope's directory. Only its user can open ``cgroup.kill`` (mode 0200). Whoever can
    read a directory could lock that, and keep everybody out of the scope.
    """
    return posix.open("cgroup.kill", posix.O_WRONLY | posix.O_CLOEXEC, dir_fd=fd)


def namespaces() -> str:
    """Return our PID and cgroup namespaces: only there an owner's pid and cgroup path are valid."""
    return (
        posix.readlink("/proc/self/ns/pid")[5:-1]
        + "/"
        + posix.readlink("/proc/self/ns/cgroup")[8:-1]
    )
