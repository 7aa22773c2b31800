"""What systemd-oomd leaves at a cgroup that it kills.

It counts in ``user.oomd_ooms`` before it sends SIGKILL to all that is in the cgroup and below
(systemd 252 to 262). In a cgroup of a user, processes of that user can write this, too.
"""

from scopekeeper.kernel import cgroupfs

ATTRIBUTE = "user.oomd_ooms"
EVIDENCE = f"systemd-oomd killed it: {ATTRIBUTE}"
_DIGITS = 19


def kills_of(directory: str) -> int:
    """Return how often systemd-oomd has killed a cgroup; 0 also if that cannot be read."""
    try:
        raw = cgroupfs.attribute(directory, ATTRIBUTE) or b""
    except OSError:
        return 0
    return int(raw) if raw.isdigit() and len(raw) <= _DIGITS else 0
