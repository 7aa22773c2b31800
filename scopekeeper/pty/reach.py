"""Reaches the keeper for a new run: the one that runs, else one that is started for it."""

import os
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
_STORE = 32768
"""Descriptors that the store of a keeper takes which we start ourselves."""


def reach(seconds: float = _SECONDS) -> Connection:
    """Connect to the keeper, started if need be; raises UnavailableError.

    seconds: how long one that was started may take until it listens.
    """
    try:
        return Connection()
    except UnavailableError:
        pass
    starter = _start()
    deadline = time.monotonic() + seconds
    while True:
        try:
            return Connection()
        except UnavailableError as error:
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"the keeper was started ({starter}) but does not listen: {error.message}",
                    "look into its journal: journalctl -u scopekeeper (or --user)",
                ) from None
            time.sleep(_PAUSE)


def _start() -> str:
    """Start a keeper: the installed one, else one of our own; return which."""
    manager = _manager()
    if manager:
        from scopekeeper import systemd

        try:
            systemd.start_unit(manager, UNIT)
        except ManagerError:
            return _start_transient(manager)
        return UNIT
    return _start_alone()


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
        return _start_alone()
    passed = [f"--setenv={name}" for name in ("SCOPEKEEPER_STATE", "HOME") if name in os.environ]
    done = subprocess.run(
        [program, *mode, f"--unit={UNIT}", "--collect", "--quiet", "--service-type=notify",
         "--property=Restart=on-failure", f"--property=FileDescriptorStoreMax={_STORE}",
         "--property=LimitNOFILE=524288", "--property=WatchdogSec=60", *passed, "--",
         *_command()],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode and "already" not in done.stderr:
        raise UnavailableError(f"no keeper can be started: {done.stderr.strip()}")
    return f"{UNIT}, transient"


def _start_alone() -> str:
    """Start a keeper of which no systemd takes care."""
    subprocess.Popen(
        [*_command(), "--standalone"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True, cwd="/",
    )  # fmt: skip
    return "scopekeeper keeper --standalone"


def _command() -> list[str]:
    own = sys.argv[0] if os.path.basename(sys.argv[0]) == "scopekeeper" else ""
    program = shutil.which(own or "scopekeeper")
    if program:
        return [os.path.abspath(program), "keeper"]
    return [sys.executable, "-m", "scopekeeper", "keeper"]
