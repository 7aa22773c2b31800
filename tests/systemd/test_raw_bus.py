"""Bytes of any kind at the bus, addressed to the keeper: it stays on the bus, and as it was."""

import os
import random
import struct
from collections.abc import Iterator

import pytest

from tests.machine import ROOT, Scopekeeper, eventually, is_alive, text_of

from .bus import BUS, allowed, busctl
from .canary import Canaries
from .guard import Keeper
from .raw_bus import (
    CALL,
    DESTINATION,
    ERROR,
    ERROR_NAME,
    INTERFACE,
    MEMBER,
    PATH,
    REPLY_SERIAL,
    RETURN,
    SENDER,
    SIGNAL,
    SIGNATURE,
    Raw,
    RawBus,
)
from .test_fuzzed_keeper import FLAT, chance, descriptors, memory  # noqa: F401  a fixture

pytestmark = pytest.mark.systemd

NAME, AT, OURS = BUS
LIST = {PATH: AT, DESTINATION: NAME, INTERFACE: OURS, MEMBER: "List"}


def string(text: bytes) -> bytes:
    return struct.pack("<I", len(text)) + text + b"\0"


def unknown_field(code: int) -> bytes:
    return struct.pack("BB2s", code, 1, b"s\0") + string(b"x")


WRONG = {
    "a type of message that nobody knows": Raw(kind=5, fields=LIST),
    "type 0": Raw(kind=0, fields=LIST),
    "type 255": Raw(kind=255, fields=LIST),
    "all flags": Raw(flags=0xFE, fields=LIST),
    "another version": Raw(version=2, fields=LIST),
    "the other byte order": Raw(order=">", fields=LIST),
    "a header field that nobody knows": Raw(fields=LIST, more=unknown_field(77)),
    "header field 0": Raw(fields=LIST, more=unknown_field(0)),
    "a signature and no body": Raw(fields=LIST | {SIGNATURE: "a{sv}"}),
    "a body and no signature": Raw(fields=LIST, body=string(b"x")),
    "a signature of something else": Raw(fields=LIST | {SIGNATURE: "ay"}, body=string(b"x")),
    "an unbalanced signature": Raw(fields=LIST | {SIGNATURE: "a{s(v"}, body=string(b"x")),
    "a signature of 255": Raw(fields=LIST | {SIGNATURE: "y" * 255}, body=b"x" * 255),
    "a string that is longer than the body": Raw(
        fields=LIST | {SIGNATURE: "s"}, body=struct.pack("<I", 1 << 20) + b"x\0"),
    "no UTF-8": Raw(fields=LIST | {SIGNATURE: "s"}, body=string(b"\xff\xfe")),
    "a NUL in a string": Raw(fields=LIST | {SIGNATURE: "s"}, body=string(b"a\0b")),
    "the body is longer than it says": Raw(fields=LIST, body=b"x" * 100, body_length=0),
    "the body is shorter than it says": Raw(fields=LIST, body_length=100),
    "a body of 2 GiB": Raw(fields=LIST, body_length=1 << 31),
    "the header is longer than it says": Raw(fields=LIST, fields_length=8),
    "a header of 1 GiB": Raw(fields=LIST, fields_length=1 << 30),
    "no destination": Raw(fields={k: v for k, v in LIST.items() if k != DESTINATION}),
    "no member": Raw(fields={k: v for k, v in LIST.items() if k != MEMBER}),
    "no path": Raw(fields={k: v for k, v in LIST.items() if k != PATH}),
    "the sender is the bus": Raw(fields=LIST | {SENDER: "org.freedesktop.DBus"}),
    "an answer to nothing": Raw(kind=RETURN, fields={DESTINATION: NAME, REPLY_SERIAL: 3}),
    "an error of nothing": Raw(
        kind=ERROR, fields={DESTINATION: NAME, REPLY_SERIAL: 2, ERROR_NAME: "a.b"}),
    "an owner that changed, as if by the bus": Raw(
        kind=SIGNAL, fields={
            PATH: "/org/freedesktop/DBus", INTERFACE: "org.freedesktop.DBus", DESTINATION: NAME,
            MEMBER: "NameOwnerChanged", SENDER: "org.freedesktop.DBus", SIGNATURE: "s",
        }, body=string(b"x")),
    "a job that systemd never did": Raw(
        kind=SIGNAL, fields={
            PATH: "/org/freedesktop/systemd1", DESTINATION: NAME, MEMBER: "JobRemoved",
            INTERFACE: "org.freedesktop.systemd1.Manager", SIGNATURE: "s",
        }, body=string(b"scopekeeper-x-main.scope")),
    "64 variants, one in the other": Raw(
        fields=LIST | {MEMBER: "Stop", SIGNATURE: "v"}, body=b"\1v\0" * 63 + b"\1y\0\7"),
    "half a header": Raw(fields=LIST).data(9)[:10],
    "half a message": Raw(fields=LIST).data(9)[:-20],
    "no message": b"GET / HTTP/1.1\r\n\r\n",
    "zeros": b"\0" * 4096,
    "a million numbers": Raw(
        fields=LIST | {SIGNATURE: "au"}, body=struct.pack("<I", 4 << 20) + bytes(4 << 20)),
}  # fmt: skip


@pytest.fixture
def busy(guard: Keeper, keeper: Scopekeeper, session: str) -> Iterator[Keeper]:
    """Have a keeper on the bus; it has never left it, and what it keeps is as it was."""
    with allowed():
        guard.start()
        canaries = Canaries(keeper, session)
        before, name = guard.pid, owner()
        yield guard
        assert guard.pid == before, "the keeper has failed"
        assert is_alive(before)
        eventually(lambda: session in busctl("call", *BUS, "List").stdout)
        assert owner() == name, "the keeper was off the bus"
        canaries.check()


def owner() -> str:
    """Return the connection that is the keeper's."""
    asked = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
    return busctl("call", *asked, "GetNameOwner", "s", NAME).stdout


@pytest.mark.parametrize("what", WRONG)
def test_wrong_bytes_leave_it_on_the_bus(busy: Keeper, what: str) -> None:
    with RawBus() as bus:
        bus.send(WRONG[what])
        bus.settled(1 if what.startswith("half") else 20)
        assert busctl("call", *BUS, "List").returncode == 0


def damaged(chance: random.Random) -> Raw | bytes:  # noqa: F811
    """Return a message that is damaged at random."""
    fields: dict[int, str | int] = dict(LIST)
    body = b""
    if chance.randrange(2):
        fields[MEMBER] = chance.choice(("Stop", "Adopt", "Label", "List", "Get"))
        fields[SIGNATURE] = chance.choice(("s", "a{sv}", "a{sv}s", "v", "u", "ay", "(", ""))
        body = chance.choice((b"", string(b"x"), chance.randbytes(chance.randrange(64))))
    if not chance.randrange(3):
        fields[chance.randrange(1, 10)] = chance.choice(("/", "a.b", "", "x" * 300, NAME))
    made = Raw(
        kind=chance.choice((CALL, CALL, SIGNAL, RETURN, ERROR, chance.randrange(256))),
        flags=chance.choice((0, 1, chance.randrange(256))), order=chance.choice("<<<>"),
        fields=fields, body=body,
        more=unknown_field(chance.randrange(256)) if not chance.randrange(8) else b"",
    )  # fmt: skip
    try:
        data = bytearray(made.data(chance.randrange(1, 1 << 32)))
    except (struct.error, AttributeError):
        return chance.randbytes(200)
    for _ in range(chance.choice((0, 0, 1, 2, 8))):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data[: chance.randrange(len(data))] if not chance.randrange(6) else data)


def test_bytes_at_random_leave_it_as_it_was(
    busy: Keeper,
    chance: random.Random,  # noqa: F811
) -> None:
    pid, held, sizes = busy.pid, 0, []
    for part in range(5):
        for _ in range(400):
            with RawBus() as bus:
                for _ in range(4):
                    bus.send(damaged(chance))
                if not chance.randrange(8):
                    bus.settled(0.2)
        assert busctl("call", *BUS, "List").returncode == 0
        held = held or descriptors(pid)
        eventually(lambda held=held: descriptors(pid) <= held)
        if part:
            sizes.append(memory(pid))
    assert sizes[-1] - sizes[0] < FLAT, sizes


def test_a_message_of_64_mib_is_left_out(busy: Keeper) -> None:
    """The bus passes it on; read by the library, it took the keeper 19 s, and 270 MB for good."""
    pid = busy.pid
    assert busctl("call", *BUS, "List").returncode == 0
    before, used = memory(pid), cpu(pid)
    most = 30 if ROOT else 64  # the system's bus takes 32 MiB
    with RawBus() as bus:
        body = struct.pack("<I", most << 20) + bytes(most << 20)
        bus.send(Raw(fields=LIST | {SIGNATURE: "au"}, body=body))
        assert bus.settled(120), "the bus has refused it"
    assert busctl("call", *BUS, "List").returncode == 0
    assert memory(pid) - before < FLAT
    assert cpu(pid) - used < 2


def cpu(pid: int) -> float:
    """Return the seconds of CPU time that a process has used."""
    fields = text_of(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
