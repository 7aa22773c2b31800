"""The keeper as a process: one for each uid, stopped by systemd."""

import asyncio
import functools
import gc
import logging
import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

# Some of these are imported here although others use them, and only later: by then an upgrade may
# have replaced the files.
from scopekeeper.errors import ScopekeeperError
from scopekeeper.exec.run import unreadable
from scopekeeper.history import journal, store  # noqa: F401
from scopekeeper.keeper import log, notices
from scopekeeper.keeper.condition import Tally
from scopekeeper.keeper.exec.server import RunServer
from scopekeeper.keeper.keeper import Keeper
from scopekeeper.keeper.metrics_address import Address
from scopekeeper.keeper.metrics_server import MetricsServer
from scopekeeper.keeper_address import only_one
from scopekeeper.kernel import malloc
from scopekeeper.metrics import read
from scopekeeper.metrics.facts import SESSIONS
from scopekeeper.scope.placement import Caller
from scopekeeper.systemd import calls  # noqa: F401
from scopekeeper.systemd.fdstore import DescriptorStore, inherited, limit
from scopekeeper.systemd.notify import notify, watchdog_seconds

if TYPE_CHECKING:
    from scopekeeper.keeper.dbus_service import Interface

    Interfaces = list[Interface]

_log = logging.getLogger("scopekeeper")

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 600.0
"""Seconds between attempts to reach the bus."""


def run(
    *,
    linger: float | None,
    on_the_bus: bool,
    listens: Callable[[], None] | None = None,
    metrics: Address | None = None,
    sessions: int = SESSIONS,
) -> None:
    """Keep until SIGTERM, or until there has been nothing to keep for linger seconds.

    listens is called when clients can connect. metrics is where to serve metrics, in which so many
    sessions have series of their own. Raises ConflictError if this uid has a keeper already, and
    what Keeper raises.
    """
    malloc.keep_little()
    stored = inherited()
    logging.basicConfig(handlers=[log.handler()], level=logging.INFO)
    lock = only_one()
    serve = None if metrics is None else functools.partial(_metrics, metrics, sessions)
    try:
        asyncio.run(_keep(stored, serve, linger=linger, on_the_bus=on_the_bus, listens=listens))
    finally:
        os.close(lock)


async def _keep(
    stored: dict[str, list[int]],
    serve_metrics: "Callable[[Keeper, Tally, Interfaces, str], MetricsServer] | None",
    *,
    linger: float | None,
    on_the_bus: bool,
    listens: Callable[[], None] | None,
) -> None:
    loop = asyncio.get_running_loop()
    caller = Caller()
    interfaces: list[Interface] = []
    tally = Tally()
    _log.addHandler(tally)

    def report(notice: notices.Notice) -> None:
        tally.note(notice)
        for interface in interfaces:
            interface.emit(notice)

    keeper = Keeper(caller, report, linger=linger, store=DescriptorStore(limit(caller.unit_path())))
    leave = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leave.set)
    loop.add_signal_handler(signal.SIGHUP, keeper.reload)
    keeper.start()
    for problem in unreadable():
        _log.error("%s; skipped", problem)
    keeper.runs.recover(stored)
    server = RunServer(keeper.runs)
    helpers = [asyncio.create_task(_beat())]
    if on_the_bus:  # only now, so that whoever activated the keeper sees the existing scopes
        joined = asyncio.Event()
        helpers.append(asyncio.create_task(_be_on_the_bus(keeper, caller, interfaces, joined)))
        await joined.wait()
    if serve_metrics is not None:
        server_of_metrics = serve_metrics(keeper, tally, interfaces, caller.mount)
        helpers.append(asyncio.create_task(server_of_metrics.serve()))
    gc.enable()
    gc.freeze()
    if listens is not None:
        listens()
    notify("READY=1", "STATUS=watching")
    waiting = [asyncio.create_task(each.wait()) for each in (leave, keeper.finished)]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    notify("STOPPING=1")
    if leave.is_set():
        await keeper.see_off()
    for task in (*helpers, *waiting):
        task.cancel()
    server.close()
    await keeper.close()


def _metrics(
    address: Address,
    sessions: int,
    keeper: Keeper,
    tally: Tally,
    interfaces: "Interfaces",
    mount: str,
) -> MetricsServer:
    look = functools.partial(
        read.read, mount, keeper.condition.sockets, sessions=sessions, keep=True
    )
    return MetricsServer(
        address, look, lambda: keeper.condition.health(tally, bus_connected=bool(interfaces))
    )


async def _be_on_the_bus(
    keeper: Keeper, caller: Caller, interfaces: "list[Interface]", tried: asyncio.Event
) -> None:
    """Serve on the bus, and reconnect when it ends; tried is set after the first attempt."""
    from scopekeeper.keeper.dbus_service import Interface, serve

    pause = _FIRST_PAUSE

    def joined() -> None:
        nonlocal pause
        pause = _FIRST_PAUSE
        interfaces.append(interface)
        tried.set()

    while True:
        interface = Interface(keeper, caller.mount)
        try:
            await serve(interface, caller.uid, joined)
        except ScopekeeperError as error:
            if not tried.is_set():  # there is no bus, or it refuses us
                _log.warning("%s; continuing without it", error)
                return
            if interfaces:
                _log.warning("%s; continuing without it until it is back", error)
        finally:
            tried.set()
        interfaces.clear()
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


async def _beat() -> None:
    """Notify systemd's watchdog that the loop runs, as often as it asks for."""
    pause = watchdog_seconds()
    while pause is not None:
        notify("WATCHDOG=1")
        await asyncio.sleep(pause)
