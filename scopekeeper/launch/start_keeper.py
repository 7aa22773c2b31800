"""Starts the installed keeper with a new scope. On the hot path of ``run``: builtin modules only.

A scope of systemd has ``Wants=`` for the keeper's unit (``create_unit``). A plain cgroup, such as
the scope in a service with ``Delegate=yes``, cannot have that.
"""

import posix

from scopekeeper import launch
from scopekeeper.kernel.proc import exists
from scopekeeper.systemd.units import KEEPER, answers
from scopekeeper.users import home_of


def is_installed(manager: str, uid: int) -> bool:
    """Return whether a manager has the keeper's unit; wanting one that is missing takes longer."""
    folders = ["/etc/systemd/", "/run/systemd/", "/usr/local/lib/systemd/", "/usr/lib/systemd/"]
    if manager == "user":
        home = home_of(uid)
        folders += [
            f"/run/user/{uid}/systemd/", f"{home}/.config/systemd/", f"{home}/.local/share/systemd/"
        ]  # fmt: skip
    return any(exists(f"{folder}{manager}/{KEEPER}") for folder in folders)


def is_active(manager: str, uid: int) -> bool:
    """Return whether the keeper's unit is active; False if our service hides that.

    systemd keeps this link for the journal, from the unit's start until it is inactive.
    """
    run = "/run" if manager == "system" else f"/run/user/{uid}"
    try:
        posix.readlink(f"{run}/systemd/units/invocation:{KEEPER}")
    except OSError:
        return False
    return True


def start(uid: int) -> None:
    """Queue the start of the keeper of a uid, if it is installed; never fails."""
    manager = "user" if uid else "system"
    answering = answers(uid) if uid else exists("/run/systemd/system")  # sd_booted(3)
    if not answering or is_active(manager, uid) or not is_installed(manager, uid):
        return
    launch.load_more()
    from scopekeeper.errors import ScopekeeperError
    from scopekeeper.systemd.manager import Manager

    try:
        with Manager(manager, uid) as connection:
            connection.start_if_possible(KEEPER)
    except (ScopekeeperError, OSError):
        return  # reconcile does its work later
