"""What the cgroup path of a unit says about it, and the files that its manager keeps for it.

On the hot path of ``run``: builtin modules only.
"""

import posix

from scopekeeper.kernel.proc import attribute, exists

KEEPER = "scopekeeper.service"
SLICE = "scopekeeper.slice"


def epoch_of(mount: str, unit_path: str) -> str:
    """Return the InvocationID of the unit at a cgroup path; '' where it is not active, or unknown.

    Its manager keeps a link for journald (since 239) from before a unit's first process until the
    unit is inactive. Where links cannot be seen, the attribute ``user.invocation_id`` tells, which
    the system's manager writes to the cgroup (since 251); but it stays with the cgroup, which
    outlives a unit that left processes behind (KillMode=process).
    """
    links = links_folder(unit_path)
    try:
        return posix.readlink(f"{links}/invocation:{unit_at(unit_path)}")
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


def unit_at(unit_path: str) -> str:
    """Return the name of the unit at a cgroup path.

    systemd writes ``_`` before a name that could be a file of the cgroup, as memory.service.
    """
    return unit_path.rpartition("/")[2].removeprefix("_")


def manager_uid(path: str) -> str:
    """Return whose manager a cgroup path belongs to; '' for the system's."""
    return path.rpartition("/user@")[2].partition(".service/")[0] if "/user@" in path else ""


def is_main_process() -> bool:
    """Tell whether systemd itself started this process (SYSTEMD_EXEC_PID=, since 248)."""
    return posix.environ.get(b"SYSTEMD_EXEC_PID") == str(posix.getpid()).encode()


def answers(uid: int) -> bool:
    """Tell whether a user's manager is there to be asked."""
    return exists(f"/run/user/{uid}/systemd/private") or exists(f"/run/user/{uid}/bus")
