"""Reaches the keeper: the one that runs, else one that is started for whoever needs it."""

import os
import select
import shutil
import subprocess
import sys
import time

from scopekeeper.errors import ManagerError, UnavailableError
from scopekeeper.launch.place import Caller, answers, exists
from scopekeeper.pty.client import Connection

UNIT = "scopekeeper.service"
_SECONDS = 15.0
_PAUSE = 0.02
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
    starter = _start_managed()
    if not starter:
        return _start_alone(placement, seconds)
    deadline = time.monotonic() + seconds
    while True:
        try:
            return Connection()
        except UnavailableError as error:
            if time.monotonic() > deadline:
                raise NoKeeperError(
                    f"the keeper was started ({starter}) but does not listen: {error.message}",
                    "look into its journal: journalctl -u scopekeeper (or --user)",
                ) from None
            time.sleep(_PAUSE)


def reach_again(patience: float = 0.0) -> Connection:
    """Connect to the keeper of what runs already; raises UnavailableError.

    It may have been killed: systemd starts it again within patience, in seconds; where nobody
    else would, it is done here.
    """
    if _manager():
        return Connection(patience)
    return reach()


def _start_managed() -> str:
    """Have systemd start a keeper: the installed one, else one of our own; return which."""
    manager = _manager()
    if not manager:
        return ""
    from scopekeeper import systemd

    try:
        systemd.start_unit(manager, UNIT)
    except ManagerError as error:
        # else it is not installed, or there is no bus, and systemd-run can do without both
        if "masked" not in str(error):
            return _start_transient(manager)
        option = " --user" if manager == "user" else ""
        raise NoKeeperError(
            f"systemd does not start the keeper: {error}", f"systemctl{option} unmask {UNIT}"
        ) from None
    return UNIT


def _manager() -> str:
    """Return which systemd manager can start it: ``system``, ``user`` or ''."""
    uid = Caller().uid
    if uid == 0:
        return "system" if exists("/run/systemd/system") else ""
    return "user" if answers(uid) else ""


def _start_transient(manager: str) -> str:
    """Have systemd run a keeper that nobody has installed; it too has a descriptor store."""
    mode = ["--user"] if manager == "user" else []
    program = shutil.which("systemd-run")
    if program is None:
        return ""
    passed = [f"--setenv={name}" for name in _PASSED if name in os.environ]
    done = subprocess.run(
        [program, *mode, f"--unit={UNIT}", "--collect", "--quiet", "--service-type=notify",
         "--property=Restart=on-failure", f"--property=FileDescriptorStoreMax={_STORE}",
         "--property=LimitNOFILE=524288", "--property=WatchdogSec=60", *passed, "--",
         *_command()],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode and "already" not in done.stderr:
        raise NoKeeperError(f"no keeper can be started: {done.stderr.strip()}")
    return f"{UNIT}, transient"


def _start_alone(placement: str, seconds: float) -> Connection:
    """Start a keeper of which no systemd takes care, and connect to it.

    Others may start one in this moment, of which one stays; and one that is just leaving keeps
    the others out until it has gone.
    """
    from scopekeeper.keeper.lock import runs
    from scopekeeper.pty.alone import Starting

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
