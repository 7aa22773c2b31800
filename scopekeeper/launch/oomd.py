"""Has systemd-oomd choose among members, and prefer some of them.

systemd-oomd chooses a cgroup without children below the one that it monitors, and reads the memory
that the kernel counts there. Without the memory controller in the leaves it passes over the whole
scope, and ends something else. ManagedOOMPreference= of the scope's unit marks the scope's own
cgroup, which is never chosen, since it has children. So the mark is on the leaf (oomd-manager.c,
systemd 252 to 262).
"""

import posix

from scopekeeper.kernel.proc import exists
from scopekeeper.launch.limits import enable

NONE = "none"


def make_candidate(directory: str, leaf: str, preference: str, warnings: list[str]) -> None:
    """Make a member of the scope at directory one that systemd-oomd can choose, with a preference.

    ``avoid`` has it chosen only if there is nothing else, ``omit`` never. A failure becomes a
    warning.
    """
    path = f"{directory}/{leaf}"
    if not enable(directory, "memory") or not exists(f"{path}/memory.current"):
        warnings.append(
            "managed_oom_preference has no effect: the memory controller is not delegated here; "
            "`scopekeeper doctor` says how to get it"
        )
        return
    if preference == NONE:
        return
    try:
        posix.setxattr(path, f"user.oomd_{preference}", b"1")
    except OSError as error:
        if exists(path):
            warnings.append(f"managed_oom_preference has no effect: {error.strerror}")
