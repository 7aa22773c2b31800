"""Whatever is sent to a keeper, and however much: it stays as large as it was, and runs go on.

The socket of runs, and the methods of the bus. A seed is printed, and repeats it:
``SCOPEKEEPER_FUZZ=SEED``.
"""

import asyncio
import contextlib
import json
import os
import random
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scopekeeper.exec import protocol
from tests.machine import ROOT, Scopekeeper, eventually, is_alive

from .bus import BUS, allowed, busctl
from .canary import Canaries
from .guard import Keeper
from .test_bus_calls import ADDRESS
from .test_exec import begin, pid_of

if sys.version_info >= (3, 15):
    from dbus_fast import BusType, Message, Variant
    from dbus_fast.aio import MessageBus
else:
    from dbus_next import BusType, Message, Variant
    from dbus_next.aio import MessageBus

pytestmark = pytest.mark.systemd

MESSAGES = 10_000
CONNECTIONS = 500
SOCKET = "/run/scopekeeper/keeper" if ROOT else f"/run/user/{os.getuid()}/scopekeeper/keeper"
FLAT = 4 << 20
"""Bytes that a keeper may grow by, after the first tenth of all messages."""


@pytest.fixture
def chance() -> random.Random:
    """Give numbers at random, which a seed repeats."""
    seed = int(os.environ.get("SCOPEKEEPER_FUZZ") or random.SystemRandom().randrange(1 << 32))
    print(f"SCOPEKEEPER_FUZZ={seed}")
    return random.Random(seed)


@pytest.fixture
def busy(guard: Keeper, keeper: Scopekeeper, session: str) -> Iterator[tuple[Keeper, str]]:
    """Have a keeper with a run whose terminal it holds; both are unharmed at the end."""
    with allowed():
        guard.start()
        canaries = Canaries(keeper, session)
        run = begin(keeper, session, "--", "cat")
        pid, before = pid_of(session), guard.pid
        yield guard, run
        assert guard.pid == before, "the keeper has failed"
        assert is_alive(pid)
        assert keeper.call("send", run, "still there", "--enter").returncode == 0
        eventually(lambda: "still there" in keeper.call("logs", run).stdout)
        canaries.check()


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def memory(pid: int) -> int:
    (found,) = re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found) << 10


def connect(seconds: float = 20.0) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(seconds)
    made.connect(SOCKET)
    return made


VALUES: tuple[object, ...] = (
    None, True, -1, 0, 1, 24, 80, 1 << 16, 1 << 31, 1 << 63, 1 << 200, 1e308, -0.5, "", "x", "\0",
    "../..", "\ud800", "x" * 5_000, [], [1, 2], [[[[]]]], {}, {"do": {}}, "list",
)  # fmt: skip


def request(chance: random.Random, run: str) -> bytes:
    """Return something like a request, or like none."""
    kinds = ("hold", "started", "failed", "attach", "send", "wait", "list", "no such", "", None)
    what = chance.choice(kinds)
    fields: dict[str, object] = {"do": what, "from": 0, "cols": 80, "rows": 24, "seconds": 0.01}
    fields["run"] = chance.choice((run, run, "00000000", "../..", {"id": run}))
    if what in ("failed", "started"):
        fields["run"] = "00000000"  # of the run itself it would be true
    for _ in range(chance.randrange(3)):
        fields[chance.choice([*fields, "pid", "start", "status", "resize"])] = chance.choice(VALUES)
    if fields["run"] == run and fields["do"] in ("failed", "started"):
        fields["run"] = ""
    data = bytearray(protocol.frame(protocol.JSON, json.dumps(fields).encode()))
    more = chance.randrange(8)
    if more == 0:
        for _ in range(3):
            data[chance.randrange(5)] = chance.randrange(256)
    elif more == 1:
        data = bytearray(chance.randbytes(chance.randrange(200)))
    elif more == 2:
        del data[chance.randrange(len(data)) :]
    elif more == 3:
        data += protocol.message(resize=[chance.choice(VALUES), chance.choice(VALUES)])
    return bytes(data)


def test_messages_at_random_on_its_socket_leave_nothing(
    busy: tuple[Keeper, str], chance: random.Random
) -> None:
    guard, run = busy
    pid = guard.pid
    held, most = descriptors(pid), 0
    for number in range(MESSAGES):
        with connect() as client, contextlib.suppress(ConnectionError):
            given = [os.open("/dev/null", os.O_RDWR) for _ in range(chance.choice((0, 0, 1, 5)))]
            data = request(chance, run)
            with contextlib.suppress(ConnectionError):
                if data:
                    socket.send_fds(client, [data], given)
            for each in given:
                os.close(each)
            if chance.randrange(4):
                client.shutdown(socket.SHUT_WR)
                if chance.randrange(2):
                    client.settimeout(0.01)
                    with contextlib.suppress(TimeoutError):
                        client.recv(1 << 16)
        if number == MESSAGES // 10:
            eventually(lambda: descriptors(pid) <= held)
            most = memory(pid)
    eventually(lambda: descriptors(pid) <= held)
    assert memory(pid) - most < FLAT


def test_500_slow_and_half_open_clients_keep_nobody_waiting(
    busy: tuple[Keeper, str], keeper: Scopekeeper, chance: random.Random
) -> None:
    guard, run = busy
    pid = guard.pid
    assert keeper.call("send", run, "first", "--enter").returncode == 0
    eventually(lambda: "first" in keeper.call("logs", run).stdout)  # its log is open from now on
    held = descriptors(pid)
    sizes = []
    for _ in range(4):
        clients = []
        for number in range(CONNECTIONS):
            client = connect()
            clients.append(client)
            with contextlib.suppress(ConnectionError):
                if number % 3 == 0:  # says nothing, or half of something
                    client.sendall(request(chance, run)[: chance.randrange(6)])
                elif number % 3 == 1:  # asks for all output, and reads nothing
                    client.sendall(protocol.message(
                        do="attach", run=run, cols=80, rows=24, read_only=True, **{"from": 0}
                    ))  # fmt: skip
                else:
                    client.sendall(protocol.message(do="wait", run=run))
        # a client that behaves is served meanwhile
        assert keeper.call("send", run, "x", "--enter", timeout=30).returncode == 0
        assert keeper.call("ls", timeout=30).returncode == 0
        for client in clients:
            client.close()
        eventually(lambda: descriptors(pid) <= held)
        sizes.append(memory(pid))
    assert sizes[-1] - sizes[0] < FLAT, sizes


def variant(chance: random.Random, depth: int = 0) -> Variant:
    """Return any value of the bus."""
    kinds = "sxubdgov" + ("aA" if depth < 3 else "")
    kind = chance.choice(kinds)
    if kind == "A":
        inner = {chance.choice("abc"): variant(chance, depth + 1) for _ in range(3)}
        return Variant("a{sv}", inner)
    if kind == "a":
        return Variant("av", [variant(chance, depth + 1) for _ in range(chance.randrange(4))])
    if kind == "v":
        return Variant("v", variant(chance, depth + 1)) if depth < 3 else Variant("b", True)
    values = {
        "s": chance.choice(("", "x", "no such", "x" * 3_000, "\x1b[2J", "%s%n", "../..")),
        "x": chance.choice((0, -1, 2**63 - 1, -(2**63))), "u": chance.choice((0, 2**32 - 1)),
        "b": bool(chance.randrange(2)), "d": chance.choice((0.0, -1e308, float("inf"))),
        "g": "a{sv}", "o": "/no/such",
    }  # fmt: skip
    return Variant(kind, values[kind])


def call(chance: random.Random) -> Message:
    """Return a call of any method; what could name a scope of the test is not in it."""
    name, path, interface = BUS
    fields = ("session", "lane", "run", "session_id", "name", "owner", "unit", "other", "x" * 300)
    chosen = {chance.choice(fields): variant(chance) for _ in range(chance.randrange(1, 4))}
    chosen["session"] = chance.choice((Variant("s", "no such"), Variant("u", 1)))
    signature, body = chance.choice((
        ("a{sv}s", [chosen, "x"]), ("a{sv}u", [chosen, 1]), ("a{sv}", [chosen]),
        ("v", [variant(chance)]), ("", []), ("ay", [chance.randbytes(200)]), ("h", [0]),
        ("s" * 40, ["x"] * 40),
    ))  # fmt: skip
    members = ("Stop", "Adopt", "Label", "NoSuch", "Get", "GetAll", "Introspect", "Ping")
    return Message(
        destination=name, path=chance.choice((path, path, path, "/", "/no/such")),
        interface=chance.choice((interface, interface, interface, None,
                                 "org.freedesktop.DBus.Properties", "no.such")),
        member=chance.choice(members), signature=signature, body=body,
        unix_fds=[0] if signature == "h" else [],
    )  # fmt: skip


def test_calls_at_random_on_the_bus_leave_nothing(
    busy: tuple[Keeper, str], chance: random.Random
) -> None:
    guard, _ = busy
    pid = guard.pid
    assert busctl("call", *BUS, "List").returncode == 0
    held = descriptors(pid)

    async def all_of_them(many: int) -> None:
        bus = await MessageBus(ADDRESS, bus_type=BusType.SYSTEM, negotiate_unix_fd=True).connect()
        try:
            for _ in range(many // 50):
                answers = await asyncio.gather(*(bus.call(call(chance)) for _ in range(50)))
                for each in answers:
                    assert '", line ' not in str(each.body if each else "")
        finally:
            bus.disconnect()

    asyncio.run(all_of_them(MESSAGES // 10))
    eventually(lambda: descriptors(pid) <= held)
    most = memory(pid)
    asyncio.run(all_of_them(MESSAGES * 9 // 10))
    eventually(lambda: descriptors(pid) <= held)
    assert memory(pid) - most < FLAT
    assert busctl("call", *BUS, "List").returncode == 0


def test_callers_on_the_bus_that_leave_or_never_read_keep_nobody_waiting(
    busy: tuple[Keeper, str], chance: random.Random
) -> None:
    guard, _ = busy
    pid = guard.pid
    assert busctl("call", *BUS, "List").returncode == 0
    held = descriptors(pid)
    sizes = []

    async def leave() -> None:
        sent: list[asyncio.Future[None]] = []
        many = [await MessageBus(ADDRESS, bus_type=BusType.SYSTEM).connect() for _ in range(50)]
        for bus in many:
            sent += [asyncio.ensure_future(bus.send(call_of_list())) for _ in range(4)]
        await asyncio.wait(sent, timeout=1)
        for bus in many:
            bus.disconnect()

    for _ in range(4):
        asyncio.run(leave())
        # it still answers who has left: 200 calls, each of which looks at all scopes
        assert busctl("--timeout=60", "call", *BUS, "List", timeout=90).returncode == 0
        eventually(lambda: descriptors(pid) <= held)
        sizes.append(memory(pid))
    assert sizes[-1] - sizes[0] < FLAT, sizes
    assert chance


def call_of_list() -> Message:
    name, path, interface = BUS
    return Message(destination=name, path=path, interface=interface, member="List")
