"""Whether the keeper is stopped alone, or with everything else that its manager runs."""

import asyncio
import contextlib
import enum

_SECONDS = 5.0
"""An emulated machine that goes down takes a second for an answer."""


class Stopping(enum.Enum):
    """What stops together with the keeper."""

    NOTHING = enum.auto()
    MANAGER = enum.auto()
    """The user's manager: nobody of that user is logged in any more."""
    MACHINE = enum.auto()


async def what_stops(uid: int) -> Stopping:
    """Return what stops right now, as systemd says it; NOTHING where it does not answer.

    systemctl asks a user's manager without the bus, which goes down as well.
    """
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
