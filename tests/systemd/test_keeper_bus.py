"""What the keeper says on the bus, to whom, and whom it takes a call to be from."""

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from tests.machine import FOREVER, ROOT, Scopekeeper, eventually, text_of

from .guard import Keeper
from .test_keeper import BUS, on_the_bus  # noqa: F401  a fixture

pytestmark = pytest.mark.systemd

LISTEN = """
import asyncio, sys
if sys.version_info >= (3, 15):
    from dbus_fast import BusType, Message, MessageType
    from dbus_fast.aio import MessageBus
else:
    from dbus_next import BusType, Message, MessageType
    from dbus_next.aio import MessageBus

RULES = ("type='signal',interface='org.scopekeeper.Keeper1'",
         "type='signal',path='/org/scopekeeper/Keeper1',eavesdrop='true'",
         "type='signal',interface='org.example.Fence'")

async def main():
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    def heard(message):
        if message.message_type is MessageType.SIGNAL and message.path != "/org/freedesktop/DBus":
            print(message.interface, message.member, message.body, flush=True)
    bus.add_message_handler(heard)
    for rule in RULES:
        done = await bus.call(Message(destination="org.freedesktop.DBus", member="AddMatch",
                                      interface="org.freedesktop.DBus", signature="s",
                                      path="/org/freedesktop/DBus", body=[rule]))
    print("listening", done.message_type, flush=True)
    await bus.wait_for_disconnect()

asyncio.run(main())
"""


@pytest.mark.root
def test_the_systems_keeper_signals_to_root_alone(
    on_the_bus: Keeper,  # noqa: F811
    keeper: Scopekeeper,
    session: str,
    tmp_path: Path,
) -> None:
    tmp_path.chmod(0o755)
    heard = {}
    for user in ("root", "other"):
        file = tmp_path / user
        with file.open("wb") as output:
            argv = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--",
                    sys.executable, "-c", LISTEN]  # fmt: skip
            keeper.popen(argv, stdout=output, cwd="/")
        eventually(lambda file=file: "listening MessageType.METHOD_RETURN" in text_of(file))
        heard[user] = file
    keeper.member("-s", session, "--owner", str(os.getpid()), "--", *FOREVER)
    done = keeper.call("stop", "-s", session, "--reason", "a secret reason")
    assert done.returncode == 0, done.stderr
    eventually(lambda: "ScopeEnded" in text_of(heard["root"]))
    eventually(lambda: "a secret reason" in text_of(heard["root"]))  # how it ended may come later
    # each connection has its messages in order: what was sent before has come by now
    fence = ("emit", "/fence", "org.example.Fence", "Fence")
    subprocess.run(["busctl", "--system", *fence], check=True, timeout=300)
    eventually(lambda: "Fence" in text_of(heard["other"]))
    assert len(text_of(heard["other"]).splitlines()) == 2, text_of(heard["other"])


def test_who_called_over_the_bus_is_who_asked_for_the_stop(
    on_the_bus: Keeper,  # noqa: F811
    keeper: Scopekeeper,
    session: str,
) -> None:
    keeper.member("-s", session, "--owner", str(os.getpid()), "--", *FOREVER)
    manager = "--system" if ROOT else "--user"
    words = ("a{sv}s", "1", "session", "s", session, "over the bus")
    caller = keeper.popen(
        ["busctl", manager, "call", *BUS, "Stop", *words], stdout=subprocess.DEVNULL
    )
    assert caller.wait(60) == 0
    (end,) = on_the_bus.ends(session)
    stopper = {"pid": caller.pid, "uid": os.getuid(), "command": "busctl"}
    assert end["stopper"] == stopper
    user = pwd.getpwuid(os.getuid()).pw_name
    words = f"asked for by busctl (pid {caller.pid}, user {user}): over the bus"
    assert end["evidence"] == words
