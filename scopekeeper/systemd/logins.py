"""Logins, which systemd-logind keeps: each has a scope unit of its own, and a process that led it.

``su -``, ``sudo -i`` and ``runuser -l`` open one by pam_systemd(8), and move themselves into it.
"""

_SCOPE = r"/session-([A-Za-z0-9]{1,50})\.scope$"
_SECONDS = 5


def opened_by(pid: int, cgroup: str) -> str:
    """Return the id of the login in whose scope a process is, if the process opened it; else ''.

    cgroup is the process's path.
    """
    if "/session-" not in cgroup:
        return ""
    import re  # slow, and few have left by a login
    import subprocess

    found = re.search(_SCOPE, cgroup)
    if found is None:
        return ""
    argv = ("loginctl", "show-session", "--property=Leader", "--value", found[1])
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found[1] if done.stdout.strip() == str(pid) else ""
