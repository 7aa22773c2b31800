"""Where the caller runs, and the folders of the cgroup2 hierarchy that hold scopes.

On the hot path of ``run``: builtin modules only.

A cgroup has two names here: its *path*, as in /proc/PID/cgroup, and its *directory*, which begins
with the mount point.
"""

import posix

from scopekeeper.kernel.proc import attribute, cgroup_of, mount_point, start_time
from scopekeeper.scope import names, records
from scopekeeper.systemd.units import SLICE, is_main_process

MOST_LAUNCHERS = 8
"""Members that a record names as those that a launch came from: a bound for its size."""
LAUNCHERS_LENGTH = MOST_LAUNCHERS * 512


class Caller:
    """The calling process: its cgroup, and the member of ours that it runs in, if any."""

    __slots__ = (
        "directory", "enclosing", "for_child", "is_main", "mount", "path", "scope_directory", "uid",
    )  # fmt: skip

    def __init__(self, *, for_child: bool = False) -> None:
        """Read where this process runs; raises LookupError without cgroup2.

        for_child: the launch contains a child of this process, which is never the main process of
        a service.
        """
        self.for_child = for_child
        self.is_main = not for_child and is_main_process()
        self.uid = posix.getuid()
        self.mount = mount_point()
        self.path = cgroup_of().rstrip("/")
        self.directory = self.mount + self.path
        self.enclosing: dict[str, str] | None = None
        self.scope_directory = ""
        scope, _, leaf = self.directory.rpartition("/")
        if leaf.startswith("m-") and names.parse_leaf(leaf):
            raw = attribute(self.directory, records.ATTRIBUTE)
            if raw is not None and names.parse_unit(scope.rpartition("/")[2]):
                self.enclosing = records.loads(raw)
                self.scope_directory = scope

    def launched_in(self) -> str:
        """Return the members that a launch by the caller comes from, the nearest last.

        Each is ``UNIT/LEAF``; '' outside of every member. What was started to outlive its starter
        does not belong to that one, so the list begins with it.
        """
        if self.enclosing is None:
            return ""
        further = ""
        if self.enclosing.get("LIFETIME") == "gateway":
            further = self.enclosing.get("LAUNCHED_IN", "")
            if len(further) > LAUNCHERS_LENGTH:  # no launch of ours wrote that
                further = ""
        nearest = "/".join(self.directory.split("/")[-2:])
        return " ".join([*further.split(" ")[1 - MOST_LAUNCHERS :], nearest]).lstrip()

    def continues(self) -> str:
        """Return how many members, the nearest last in ``launched_in``, this process has been.

        '' if a launch by it begins another process: only the command of a member can go on as
        another member, by becoming ``run``.
        """
        found = self.enclosing
        if found is None or self.for_child or found.get("PID") != str(posix.getpid()):
            return ""
        if found.get("START") != start_time("self"):
            return ""
        before = found.get("CONTINUES", "") if found.get("LIFETIME") == "gateway" else ""
        known = before.isdecimal() and before.isascii() and len(before) == 1
        return str(min((int(before) if known else 0) + 1, MOST_LAUNCHERS))

    def manager_path(self) -> str:
        """Return the path of the user's manager, or the prefix of the system's (mostly '')."""
        if self.uid == 0:
            try:
                first = cgroup_of("1")  # not systemd, in a PID namespace without it
            except OSError:
                return ""  # hidden from our service (ProtectProc=)
            return first.removesuffix("/init.scope") if first.endswith("/init.scope") else ""
        service = f"/user@{self.uid}.service"
        at = self.path.find(service + "/")
        if at >= 0:
            return self.path[: at + len(service)]
        return f"/user.slice/user-{self.uid}.slice{service}"

    def unit_path(self) -> str:
        """Return the path of the service that the caller runs in, '' if there is none."""
        end = self.path.rfind(".service/")
        if self.path.endswith(".service"):
            path = self.path
        elif end >= 0:
            path = self.path[: end + 8]
        else:
            return ""
        # a user's manager is a service too; a login session or a scope is no owner
        return "" if path.rpartition("/")[2].startswith("user@") else path

    def system_service(self) -> str:
        """Return the path of the service of the system's manager that we run in, '' if none."""
        return "" if "/user@" in self.path else self.unit_path()


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
        """Return whether the unit at this path belongs to the manager of this place."""
        if not self.manager or not unit_path.startswith(self.manager_path + "/"):
            return False
        return "/user@" not in unit_path[len(self.manager_path) :]

    def path(self, directory: str) -> str:
        """Return the cgroup path of a directory."""
        return directory[len(self.mount) :]


def manager_of(scope_path: str) -> str:
    """Return the manager of the scope at this path: ``system``, ``user``, or '' if we made it."""
    folder = scope_path.rpartition("/")[0]
    if not folder.endswith("/" + SLICE):
        return ""
    return "user" if "/user@" in folder else "system"


def place_of(caller: Caller) -> Place:
    """Return the place of the scope that the caller runs in, where a nested launch stays."""
    base = caller.scope_directory.rpartition("/")[0]
    manager = manager_of(caller.scope_directory[len(caller.mount) :])
    path = base[len(caller.mount) : -len(SLICE) - 1] if manager else ""
    return Place(caller.mount, base, manager, path)


def managed(caller: Caller, manager: str) -> Place:
    """Return the place of the caller's scopes under the ``system`` or ``user`` manager."""
    path = caller.manager_path()
    if manager == "user" and caller.uid == 0:  # root's own manager is not the system's
        path += "/user.slice/user-0.slice/user@0.service"
    return Place(caller.mount, f"{caller.mount}{path}/{SLICE}", manager, path)
