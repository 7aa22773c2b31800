"""Reaches the keeper: the one that runs, else one that is started for whoever needs it."""

import contextlib
import os
import select
import shutil
import sys
import time

from scopekeeper.errors import ManagerError, UnavailableError
from scopekeeper.exec.client import Connection
from scopekeeper.kernel.proc import exists
from scopekeeper.scope.placement import Caller
from scopekeeper.systemd.units import KEEPER, answers

_SECONDS = 15.0
_PAUSE = 0.02
_LOOK_SECONDS = 0.2
"""Between looks at the unit of a keeper that is being started."""
_TRIES = 3
_PASSED = ("SCOPEKEEPER_STATE", "SCOPEKEEPER_CONFIG", "XDG_STATE_HOME")
"""Variables that say where things are; nothing else of its caller is a keeper's business."""
_STORE = 32768
"""Descriptors that the store of a keeper takes which we start ourselves."""


class NoKeeperError(UnavailableError):
    """There is none, and none can be started; no use to wait for one."""


def reach(placement: str = "", seconds: float = _SECONDS) -> Connection:
    """Connect to the keeper, started if need be; raises NoKeeperError.

    placement: where one that is started without systemd is to live, if anything was said of it.
    seconds: how long one that was started may take until it listens.
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

    A unit that was started too often (StartLimitBurst=), as one whose process is killed again and
    again, fails at once: the limit is for restarts that nobody asked for, so it is lifted, once.
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
    """Connect to the keeper of what runs already; raises UnavailableError.

    It may have been killed: systemd starts it again within patience, in seconds; where nobody
    else would, it is done here. start: so it is where systemd will not, since the keeper was
    stopped or killed too often; that is for a call that begins something, as whoever stops a
    keeper to which somebody is attached does not want another one.
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
    """Have systemd start a keeper: the installed one, else one of our own; return which."""
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
    """Return which systemd manager can start it: ``system``, ``user`` or ''."""
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
    """Start a keeper of which no systemd takes care, and connect to it.

    Others may start one in this moment, of which one stays; and one that is just leaving keeps
    the others out until it has gone.
    """
    from scopekeeper.exec.keeper_address import runs
    from scopekeeper.exec.spawn_keeper import Starting

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
    program = shutil.which(own or "scopekeeper")
    if program:
        return [os.path.abspath(program), "keeper"]
    return [sys.executable, "-m", "scopekeeper", "keeper"]
