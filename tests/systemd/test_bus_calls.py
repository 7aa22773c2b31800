"""Whatever a caller says on the bus: an answer or a clear error, and the keeper goes on."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.machine import FOREVER, PATIENCE, ROOT, Scopekeeper

from .bus import BUS, allowed, busctl
from .guard import Keeper

if sys.version_info >= (3, 15):
    from dbus_fast import BusType, Message, MessageType, Variant
    from dbus_fast.aio import MessageBus
else:
    from dbus_next import BusType, Message, MessageType, Variant
    from dbus_next.aio import MessageBus

pytestmark = pytest.mark.systemd

LONG, DIGITS = "x" * 100_000, "9" * 5_000
ADDRESS = None if ROOT else f"unix:path=/run/user/{os.getuid()}/bus"


@pytest.fixture
def on_the_bus(guard: Keeper) -> Iterator[Keeper]:
    """Give a keeper that is on the bus."""
    with allowed():
        guard.start()
        yield guard


def calls(*messages: tuple[str, str, list[Any]]) -> list[Message]:
    """Call methods of the keeper, each with its signature and arguments; return the answers."""

    async def call() -> list[Message]:
        bus = await MessageBus(ADDRESS, bus_type=BusType.SYSTEM).connect()
        try:
            return [await bus.call(_message(*each)) for each in messages]
        finally:
            bus.disconnect()

    return asyncio.run(asyncio.wait_for(call(), 60))


def _message(member: str, signature: str, body: list[Any]) -> Message:
    name, path, interface = BUS
    return Message(
        destination=name, path=path, interface=interface, member=member,
        signature=signature, body=body,
    )  # fmt: skip


def calls_that_wait(keeper: Keeper, *messages: tuple[str, str, list[Any]]) -> list[Message]:
    """Call methods of a keeper that is suspended, and resume it when the bus has the calls."""

    async def call() -> list[Message]:
        bus = await MessageBus(ADDRESS, bus_type=BusType.SYSTEM).connect()
        try:
            made = [asyncio.ensure_future(bus.call(_message(*each))) for each in messages]
            await asyncio.sleep(0)  # lets them be written
            of_the_bus = "org.freedesktop.DBus"
            path = "/org/freedesktop/DBus"
            await bus.call(Message(of_the_bus, path, of_the_bus, "GetId"))  # answers in order
            os.kill(keeper.pid, signal.SIGCONT)
            return list(await asyncio.gather(*made))
        finally:
            bus.disconnect()

    return asyncio.run(asyncio.wait_for(call(), 60))


def nested(depth: int) -> Variant:
    """Return a text in many variants."""
    value = Variant("s", "x")
    for _ in range(depth):
        value = Variant("v", value)
    return value


WRONG: list[tuple[str, str, list[Any]]] = [
    ("Stop", "a{sv}s", [{"unit": Variant("as", ["x"])}, ""]),
    ("Stop", "a{sv}s", [{"unit": Variant("a{sv}", {})}, ""]),
    ("Stop", "a{sv}s", [{"unit": Variant("u", 1)}, ""]),
    ("Stop", "a{sv}s", [{"session": Variant("x", 1)}, ""]),
    ("Stop", "a{sv}s", [{"session": nested(30)}, ""]),
    ("Stop", "a{sv}s", [{"session": Variant("s", LONG)}, ""]),
    ("Stop", "a{sv}s", [{"owner": Variant("s", DIGITS)}, ""]),
    ("Stop", "a{sv}s", [{"session": Variant("s", "no such")}, LONG]),
    ("Stop", "a{sv}s", [{LONG: Variant("s", "x")}, ""]),
    ("Stop", "a{sv}s", [{str(n): Variant("s", "x") for n in range(5_000)}, ""]),
    ("Stop", "a{sv}s", [{}, ""]),
    ("Stop", "a{sv}s", [{"name": Variant("s", "")}, ""]),
    ("Stop", "a{sv}s", [{"name": Variant("s", ""), "run": Variant("s", "")}, ""]),
    ("Stop", "a{sv}s", [{"owner": Variant("s", "")}, ""]),
    ("Stop", "s", ["x"]),
    ("Adopt", "a{sv}u", [{"session": Variant("s", "no such")}, 0]),
    ("Adopt", "a{sv}u", [{"session": Variant("s", "no such")}, 2**32 - 1]),
    ("Adopt", "a{sv}s", [{"session": Variant("s", "no such")}, "1"]),
    ("Label", "a{sv}s", [{"session": Variant("s", "no such")}, LONG]),
    ("Label", "a{sv}s", [{"session": Variant("s", "no such")}, "x" * 513]),
    ("Label", "a{sv}s", [{}, "x"]),
    ("Label", "a{sv}", [{"session": Variant("s", "no such")}]),
    ("List", "s", ["x"]),
    ("NoSuch", "", []),
]


def test_wrong_arguments_are_answered_with_one_clear_line(
    on_the_bus: Keeper, keeper: Scopekeeper, session: str
) -> None:
    member = keeper.member("-s", session, "--owner", str(os.getpid()), "--", *FOREVER)
    before = on_the_bus.pid
    for wrong, answer in zip(WRONG, calls(*WRONG), strict=True):
        assert answer.message_type is MessageType.ERROR, str(wrong)[:200]
        (text,) = answer.body
        assert '", line ' not in text  # no place in the program
        assert len(text) < 2_000
        assert "\n" not in text
    assert busctl("call", *BUS, "List").returncode == 0
    assert (on_the_bus.pid, member.poll()) == (before, None)


VALUES = st.recursive(
    st.one_of(
        st.text(max_size=20).map(lambda text: Variant("s", text.replace("\0", ""))),
        st.integers(-(2**63), 2**63 - 1).map(lambda number: Variant("x", number)),
        st.integers(0, 2**32 - 1).map(lambda number: Variant("u", number)),
        st.booleans().map(lambda flag: Variant("b", flag)),
        st.floats().map(lambda number: Variant("d", number)),
        st.binary(max_size=20).map(lambda raw: Variant("ay", raw)),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda many: Variant("av", many)),
        inner.map(lambda one: Variant("v", one)),
        st.dictionaries(st.sampled_from(["a", "b"]), inner).map(lambda d: Variant("a{sv}", d)),
    ),
    max_leaves=5,
)
SELECTORS = st.dictionaries(
    st.sampled_from(["session", "lane", "run", "session_id", "name", "owner", "unit", "other"]),
    VALUES,
    max_size=4,
)
CALLS = st.one_of(
    st.tuples(SELECTORS, st.text(max_size=50).map(lambda text: text.replace("\0", ""))).map(
        lambda given: ("Stop", "a{sv}s", list(given))
    ),
    st.tuples(SELECTORS, st.integers(0, 2**32 - 1)).map(
        lambda given: ("Adopt", "a{sv}u", list(given))
    ),
    st.tuples(SELECTORS, st.text(max_size=600).map(lambda text: text.replace("\0", ""))).map(
        lambda given: ("Label", "a{sv}s", list(given))
    ),
)


def test_of_any_call_the_keeper_answers_and_lives_on(
    on_the_bus: Keeper, keeper: Scopekeeper, session: str
) -> None:
    # hypothesis also tries words that stand in our code: the command's name is one, and "main"
    mark = session[-8:]
    words = ("-s", session, "-l", f"lane-{mark}", "-n", f"member-{mark}")
    member = keeper.member(*words, "--owner", str(os.getpid()), "--", *FOREVER)
    before = on_the_bus.pid

    @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(CALLS, min_size=1, max_size=10))
    def any_calls(made: list[tuple[str, str, list[Any]]]) -> None:
        for answer in calls(*made):
            assert '", line ' not in str(answer.body)

    any_calls()
    assert (on_the_bus.pid, member.poll()) == (before, None)


@pytest.mark.parametrize("method", ["List", "Stop", "Reconcile"])
def test_a_call_right_after_a_launch_finds_what_was_launched(
    on_the_bus: Keeper, keeper: Scopekeeper, session: str, method: str
) -> None:
    os.kill(on_the_bus.pid, signal.SIGSTOP)  # so both wait for it, as on a busy machine
    try:
        member = keeper.member("-s", session, "--owner", str(os.getpid()), "--", *FOREVER)
        selector = {"session": Variant("s", session)}
        arguments = ("a{sv}s", [selector, "test"]) if method == "Stop" else ("", [])
        (answer,) = calls_that_wait(on_the_bus, (method, *arguments))
    finally:
        os.kill(on_the_bus.pid, signal.SIGCONT)
    (found,) = answer.body
    assert any(session in str(each) for each in found), found
    if method == "Stop":
        assert member.wait(PATIENCE) == -signal.SIGTERM
