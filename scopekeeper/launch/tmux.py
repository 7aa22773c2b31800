"""A launch that is the first program of a tmux pane: what its parent, the server, does with it.

tmux 3.4 and later, where built with systemd, asks the user's manager to move each pane into a scope
of its own, ``tmux-spawn-<uuid>.scope``, while the pane's program already starts. If that came after
the launch had contained itself, it would be taken out of its scope again. From before the
fork until the pane is moved, or that has failed, the server blocks all signals (spawn_pane() in
spawn.c), which procfs shows.
"""

import posix
import time

from scopekeeper.kernel.proc import attribute, cgroup_of, read
from scopekeeper.scope import names, records

_SIGCHLD_BIT = 1 << 16
"""Of SigBlk: a server that waits for its clients does not block SIGCHLD."""
_PATIENCE, _PAUSE = 2.0, 0.002
"""tmux itself waits one second for the manager."""


def wait_until_moved(environment: dict[bytes, bytes]) -> str:
    """Wait until the tmux server that is our parent is done with our pane.

    Returns its pid, '' if there is none.
    """
    parent = str(posix.getppid())
    fields = environment.get(b"TMUX", b"").rsplit(b",", 2)  # socket, pid, number of the session
    if len(fields) < 3 or fields[1] != parent.encode():
        return ""
    until = time.monotonic() + _PATIENCE
    try:
        while _is_busy(parent) and time.monotonic() < until:
            time.sleep(_PAUSE)
    except (OSError, ValueError):
        pass  # it has ended, or is hidden from us
    return parent


def _is_busy(server: str) -> bool:
    blocked = read(f"/proc/{server}/status").partition("\nSigBlk:")[2].partition("\n")[0]
    return bool(int(blocked or "0", 16) & _SIGCHLD_BIT)


def session_of(server: str, mount: str) -> str:
    """Return the session that the server ends with; '' if there is none."""
    try:
        leaf = mount + cgroup_of(server)
        scope = leaf.rpartition("/")[0]
        if not names.parse_unit(scope.rpartition("/")[2]):
            return ""
        member = attribute(leaf, records.ATTRIBUTE)
        if member is None or records.loads(member).get("LIFETIME") == "detached":
            return ""
        raw = attribute(scope, records.ATTRIBUTE)
        return records.loads(raw, records.OF_SCOPE)["SESSION"] if raw is not None else ""
    except (OSError, LookupError, records.RecordError):
        return ""  # it has ended, or its record is damaged
