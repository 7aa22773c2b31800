"""Connects to the keeper, and starts one if there is none."""

import contextlib
import os
import select
import sys
import time

from scopekeeper.errors import ManagerError, UnavailableError
from scopekeeper.exec.client import Connection
from scopekeeper.kernel.proc import exists
from scopekeeper.scope.placement import Caller
from scopekeeper.systemd.units import KEEPER, answers

_SECONDS = 60.0
"""How long a keeper may take until it listens; one that has ended is noticed at once."""
_PAUSE = 0.02
_LOOK_SECONDS = 0.2
"""Between checks of the unit of a keeper that is starting."""
_TRIES = 3
_PASSED = ("SCOPEKEEPER_STATE", "SCOPEKEEPER_CONFIG", "XDG_STATE_HOME")
"""Variables that say where files are; a keeper gets no others."""
_STORE = 32768
"""FileDescriptorStoreMax= of a keeper that is not installed."""


class NoKeeperError(UnavailableError):
    """There is no keeper, and none can be started."""


def reach(placement: str = "", seconds: float = _SECONDS) -> Connection:
    """Connect to the keeper, and start it if necessary; raises NoKeeperError.

    placement is that of a keeper started without systemd, '' for its own choice. seconds is how
    long a keeper may take until it listens.
    """
    try:
        return Connection()
    except UnavailableError:
        pass
    manager = _manager()
    starter = _start_managed(manager)
    if not starter:
        return _start_alone(placement, seconds)
    return _await(manager, starter, seconds)


def _await(manager: str, starter: str, seconds: float) -> Connection:
    """Connect to a keeper that systemd is starting; raises NoKeeperError.

    A unit that was started too often (StartLimitBurst=), since its process is killed again and
    again, fails at once. That limit is for automatic restarts, so it is lifted, once.
    """
    began = looked = time.monotonic()
    seen = lifted = False
    while True:
        try:
            return Connection()
        except UnavailableError as error:
            problem = error.message
        now = time.monotonic()
        if now > began + seconds:
            raise _not_listening(manager, f"was started ({starter}) but does not listen: {problem}")
        if now > looked + _LOOK_SECONDS:
            looked = now
            if not _has_ended(manager):
                seen = True
            elif seen or lifted:
                raise _not_listening(manager, f"was started ({starter}) but has ended")
            else:
                lifted = True
                _lift_limit(manager)
                starter = _start_managed(manager)
        time.sleep(_PAUSE)


def _not_listening(manager: str, problem: str) -> NoKeeperError:
    option = " --user" if manager == "user" else ""
    return NoKeeperError(
        f"the keeper {problem}", f"look into its journal: journalctl{option} -u {KEEPER}"
    )


def _has_ended(manager: str) -> bool:
    from scopekeeper.systemd import calls

    try:
        return calls.has_ended(manager, KEEPER)
    except ManagerError:  # the manager does not answer
        return False


def _lift_limit(manager: str) -> None:
    from scopekeeper.systemd import calls

    with contextlib.suppress(ManagerError):
        calls.reset_failed(manager, KEEPER)


def reach_again(patience: float = 0.0, *, start: bool = False) -> Connection:
    """Connect to the keeper of a run; raises UnavailableError.

    If it was killed, systemd restarts it within patience, in seconds; without systemd it is
    started here. start also starts a keeper that was stopped, or killed too often: for a command
    that the user begins, not for one that was attached while somebody stopped the keeper.
    """
    manager = _manager()
    if not manager:
        return reach()
    if not start:
        return Connection(patience)
    deadline = time.monotonic() + patience
    while True:
        try:
            return Connection()
        except UnavailableError:
            if time.monotonic() > deadline:
                raise
            if _has_ended(manager):
                return reach()
            time.sleep(_LOOK_SECONDS)


def _start_managed(manager: str) -> str:
    """Have systemd start the installed keeper, else a transient one; return which, '' for none."""
    if not manager:
        return ""
    from scopekeeper.systemd import calls

    try:
        calls.start_unit(manager, KEEPER)
    except ManagerError as error:
        # otherwise it is not installed
        if "masked" not in str(error):
            return _start_transient(manager)
        option = " --user" if manager == "user" else ""
        raise NoKeeperError(
            f"systemd does not start the keeper: {error}", f"systemctl{option} unmask {KEEPER}"
        ) from None
    return KEEPER


def _manager() -> str:
    """Return which systemd manager can start the keeper: ``system``, ``user`` or ''."""
    uid = Caller().uid
    if uid == 0:
        return "system" if exists("/run/systemd/system") else ""
    return "user" if answers(uid) else ""


def _start_transient(manager: str) -> str:
    """Have systemd run a keeper that is not installed; it has a descriptor store too."""
    from scopekeeper.systemd import calls

    command = _command()
    variables = [f"{name}={os.environ[name]}" for name in _PASSED if name in os.environ]
    try:
        calls.start_transient(manager, KEEPER, {
            "Description": ("s", "scopekeeper: the keeper, not installed"),
            "Type": ("s", "notify"),
            "ExecStart": ("a(sasb)", [(command[0], command, False)]),
            "Environment": ("as", variables),
            "Restart": ("s", "on-failure"),
            "CollectMode": ("s", "inactive-or-failed"),
            "FileDescriptorStoreMax": ("u", _STORE),
            "LimitNOFILE": ("t", 524288),
            "WatchdogUSec": ("t", 60_000_000),
        })  # fmt: skip
    except ManagerError as error:
        if "already" not in str(error):
            raise NoKeeperError(f"no keeper can be started: {error}") from None
    return f"{KEEPER}, transient"


def _start_alone(placement: str, seconds: float) -> Connection:
    """Start a keeper without systemd, and connect to it.

    If others start one at the same time, one of them stays. A keeper that is exiting keeps the
    lock until it is gone.
    """
    from scopekeeper.exec.spawn_keeper import Starting
    from scopekeeper.keeper_address import runs

    deadline = time.monotonic() + seconds
    command = [*_command(), "--standalone"]
    variables = {"SCOPEKEEPER_PLACEMENT": placement} if placement else {}
    tries = 0
    while True:
        try:
            return Connection()
        except UnavailableError as error:
            problem = error.message
        if time.monotonic() > deadline:
            raise NoKeeperError(f"a keeper runs but does not listen: {problem}")
        if runs():
            time.sleep(_PAUSE)
            continue
        with Starting(command, **variables) as starting:
            select.select([starting], [], [], max(deadline - time.monotonic(), 0.0))
            tries += 1
            if tries >= _TRIES and not runs():
                said = starting.words.removeprefix("scopekeeper: ") or "it said nothing"
                raise NoKeeperError(
                    f"`{' '.join(command)}` does not stay: {said}", f"look into {starting.log}"
                )


def _command() -> list[str]:
    own = sys.argv[0] if os.path.basename(sys.argv[0]) == "scopekeeper" else ""
    import shutil

    program = shutil.which(own or "scopekeeper")
    if program:
        return [os.path.abspath(program), "keeper"]
    return [sys.executable, "-m", "scopekeeper", "keeper"]
