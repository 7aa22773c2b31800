"""Whether the keeper is stopped alone or together with everything else.

Runs systemctl: it uses the manager's own socket, as the bus goes down too, and unlike a call
through pystemd it can be killed when the manager does not answer.
"""

import asyncio
import contextlib
import enum

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


async def _is_stopping(*options: str) -> bool:
    try:
        asked = await asyncio.create_subprocess_exec(
            "systemctl", *options, "is-system-running",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
    except OSError:
        return False
    try:
        said, _ = await asyncio.wait_for(asked.communicate(), _SECONDS)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            asked.kill()
        return False
    return said.strip() == b"stopping"
