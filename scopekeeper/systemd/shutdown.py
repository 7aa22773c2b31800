"""What systemd is stopping: a service, the manager, the machine.

Runs systemctl: it uses the manager's own socket, as the bus goes down too, and unlike a call
through pystemd it can be killed when the manager does not answer.
"""

import asyncio
import contextlib
import enum
from dataclasses import dataclass

from scopekeeper.systemd.service_end import how_killed, was_killed

_UP = ("active", "reloading", "refreshing", "activating")
_SECONDS = 5.0
"""An emulated machine takes a second to answer while it goes down."""


class Stopping(enum.Enum):
    """What stops together with the keeper."""

    NOTHING = enum.auto()
    MANAGER = enum.auto()
    """The user's manager, after the last logout."""
    MACHINE = enum.auto()


async def what_stops(uid: int) -> Stopping:
    """Return what systemd is stopping now; NOTHING if it does not answer."""
    if await _is_stopping():
        return Stopping.MACHINE
    if uid and await _is_stopping("--user"):
        return Stopping.MANAGER
    return Stopping.NOTHING


@dataclass(frozen=True, slots=True)
class UnitState:
    """What systemd reports about a service."""

    is_leaving: bool
    """Whether this life of it is being stopped, or is over."""
    main_pid: int
    """Of its main process, also after its end; 0 if systemd has forgotten it."""
    runs: bool = False
    """Whether its main process lives."""
    killed: str = ""
    """How it was killed, ``signal 9`` for instance; '' if it was not, or is another life."""

    def evidence(self, unit: str) -> str:
        """Return the evidence that this life of the unit is over, or about to be."""
        if self.killed:
            return was_killed(unit, self.killed)
        return f"{unit} {'was stopping' if self.runs else 'has stopped'}"


async def unit_state(unit: str, epoch: str, *, of_user: bool) -> UnitState | None:
    """Return the state of one life of a service; None if systemd does not answer."""
    options = ["--user"] if of_user else []
    names = (
        "ActiveState", "SubState", "InvocationID", "ExecMainPID", "MainPID",
        "Result", "ExecMainCode", "ExecMainStatus",
    )  # fmt: skip
    printed = await _ask(*options, "show", *(f"--property={name}" for name in names), "--", unit)
    lines = (line.partition("=") for line in printed.decode("utf-8", "replace").split())
    found = {name: value for name, _, value in lines}
    if not found.get("ActiveState"):
        return None
    waits = found.get("SubState", "").startswith("auto-restart")
    is_over = waits or found["ActiveState"] not in _UP
    is_another = bool(epoch) and found.get("InvocationID") not in ("", epoch)
    pid = found.get("ExecMainPID", "")
    if is_another:
        return UnitState(is_leaving=True, main_pid=0)
    runs = found.get("MainPID", "0") != "0"
    how = (found.get(name, "") for name in ("Result", "ExecMainCode", "ExecMainStatus"))
    killed = how_killed(*how) if is_over and not runs else ""
    return UnitState(is_over, int(pid) if pid.isdecimal() else 0, runs, killed)


async def _is_stopping(*options: str) -> bool:
    return (await _ask(*options, "is-system-running")).strip() == b"stopping"


async def _ask(*words: str) -> bytes:
    """Return what systemctl prints; b'' if it cannot be run, or does not answer in time."""
    try:
        asked = await asyncio.create_subprocess_exec(
            "systemctl", *words,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
    except OSError:
        return b""
    try:
        printed, _ = await asyncio.wait_for(asked.communicate(), _SECONDS)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            asked.kill()
        return b""
    return printed
