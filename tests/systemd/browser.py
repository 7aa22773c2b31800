"""A stand-in for Chrome: asks the manager for a scope of its own, and starts children in it.

    python browser.py UNIT FILE [hidden|terminal]

It writes its pid and that of its child into FILE once both are in UNIT. The child hides its
environment (``hidden``, as a sandbox does), or has a terminal of its own (``terminal``).
"""

import asyncio
import ctypes
import os
import pty
import sys
import time
from pathlib import Path

if sys.version_info >= (3, 15):
    from dbus_fast import BusType, Message, MessageType, Variant
    from dbus_fast.aio import MessageBus
else:
    from dbus_next import BusType, Message, MessageType, Variant
    from dbus_next.aio import MessageBus

SYSTEMD = "org.freedesktop.systemd1"
PR_SET_DUMPABLE = 4


async def leave(unit: str) -> None:
    """Have the manager make the scope with this process in it."""
    uid = os.getuid()
    bus = await MessageBus(
        f"unix:path=/run/user/{uid}/bus" if uid else None, bus_type=BusType.SYSTEM
    ).connect()
    answer = await bus.call(
        Message(
            SYSTEMD, "/org/freedesktop/systemd1", f"{SYSTEMD}.Manager", "StartTransientUnit",
            signature="ssa(sv)a(sa(sv))",
            body=[unit, "fail", [["PIDs", Variant("au", [os.getpid()])]], []],
        )
    )  # fmt: skip
    assert answer is not None
    assert answer.message_type is MessageType.METHOD_RETURN, answer.body
    bus.disconnect()


def main() -> None:
    """Leave, start a child, and stay."""
    unit, file, *how = sys.argv[1:]
    asyncio.run(leave(unit))
    while unit not in Path("/proc/self/cgroup").read_text():
        time.sleep(0.01)
    child, _ = pty.fork() if how == ["terminal"] else (os.fork(), -1)
    if child == 0:
        if how == ["hidden"]:
            ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
        while True:
            time.sleep(1000)
    Path(f"{file}.new").write_text(f"{os.getpid()} {child}")
    os.rename(f"{file}.new", file)
    while True:
        time.sleep(1000)


if __name__ == "__main__":
    main()
