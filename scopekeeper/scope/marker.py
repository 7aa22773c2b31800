"""Finds processes by the marker that a launch puts into their environment.

A process of the same uid can leave its cgroup, and some do: a browser asks systemd for a scope of
its own. Its environment still names the scope and the member where it was started.
"""

from scopekeeper.data import dataclass
from scopekeeper.kernel import cgroupfs, proc
from scopekeeper.scope import names

_PREFIX = b"SCOPEKEEPER_"


@dataclass(frozen=True, slots=True)
class Marked:
    """A process that was started in a scope, wherever it is now."""

    pid: int
    cgroup: str
    """The path of its cgroup now."""
    environment: bytes

    @property
    def scope(self) -> str:
        """The unit in which it was started; '' if its marker names none."""
        return self.value("SCOPE")

    def value(self, name: str) -> str:
        """Return SCOPEKEEPER_name of its environment, '' if that is not set."""
        start = _PREFIX + name.encode() + b"="
        found = [e for e in self.environment.split(b"\0") if e.startswith(start)]
        return found[-1][len(start) :].decode("utf-8", "surrogateescape") if found else ""

    def carries(self, name: str, value: str) -> bool:
        """Return whether its environment sets SCOPEKEEPER_name to this value."""
        entry = _PREFIX + name.encode() + b"=" + value.encode("utf-8", "surrogateescape")
        return b"\0" + entry + b"\0" in b"\0" + self.environment + b"\0"


def look(pid: int) -> Marked | None:
    """Return the process if it carries a marker; None also if it has ended or cannot be read."""
    try:
        environment = proc.environment(pid)
    except OSError:
        return None
    marker = _PREFIX + b"SCOPE="
    if not environment.startswith(marker) and b"\0" + marker not in environment:
        return None
    # A launch enters its leaf before it executes the command with the marker. So this is not a
    # path from before it.
    cgroup = cgroupfs.path_of(pid)
    return Marked(pid, cgroup, environment) if cgroup else None


def look_outside(pid: int) -> Marked | None:
    """Return the process if it carries a marker and is in no scope; see look.

    Most processes are in a scope, or cannot be read: only of the others the environment is read.
    A process in another scope than its marker names is contained as well, for instance in that of
    a launch within its own.
    """
    path = cgroupfs.path_of(pid)
    if not path or names.unit_of(path):
        return None
    found = look(pid)
    return found if found is not None and not names.unit_of(found.cgroup) else None
