"""``org.scopekeeper.Keeper1``: the keeper on the bus.

Uses dbus-next up to Python 3.14; from 3.15 on dbus-next fails to import, so its fork dbus-fast.
Both read the D-Bus signature of a method from its annotations.
"""

# mypy: disable-error-code="name-defined,syntax,valid-type,misc,untyped-decorator,attr-defined"
# mypy: disable-error-code="no-untyped-call,no-any-return"

import asyncio
import contextlib
import contextvars
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from scopekeeper.errors import ScopekeeperError, words
from scopekeeper.keeper import notices
from scopekeeper.keeper.bus_stream import Patient, Sieve
from scopekeeper.keeper.keeper import Keeper
from scopekeeper.kernel import proc
from scopekeeper.lifecycle import adopt, observe
from scopekeeper.lifecycle import label as given_label
from scopekeeper.lifecycle.plan import plan
from scopekeeper.scope.launched import Named
from scopekeeper.scope.model import Scope, Snapshot
from scopekeeper.scope.owner import find_owner
from scopekeeper.scope.placement import Caller
from scopekeeper.scope.reason import Cause, Reason, Stopper
from scopekeeper.scope.selection import Selected, Selector, select
from scopekeeper.systemd.units import SYSTEM_BUS

if sys.version_info >= (3, 15):
    from dbus_fast import DBusError, Message, MessageType, Variant
    from dbus_fast.aio import MessageBus
    from dbus_fast.service import ServiceInterface, method, signal
else:
    from dbus_next import DBusError, Message, MessageType, Variant
    from dbus_next.aio import MessageBus
    from dbus_next.service import ServiceInterface, method, signal

NAME = "org.scopekeeper.Keeper1"
PATH = "/org/scopekeeper/Keeper1"
_sender: contextvars.ContextVar[str] = contextvars.ContextVar("sender")
"""The connection that made the current call; the library does not pass it to the method."""
_SELECTORS = ("session", "lane", "run", "session_id", "name", "owner")
_LONGEST = 1024
"""Most characters of an argument; a session's key has at most 512."""
_PIDS = 1 << 22
"""PID_MAX_LIMIT of Linux."""
_WHOLE = -(1 << 63), (1 << 63) - 1


def _variants(values: dict[str, Any]) -> dict[str, Any]:
    """Return values as D-Bus variants; bytes that are not UTF-8 are escaped."""
    return {key: _variant(value) for key, value in values.items() if value is not None}


def _variant(value: bool | int | str) -> Any:
    if isinstance(value, bool):
        return Variant("b", value)
    if isinstance(value, int):
        return Variant("x", max(_WHOLE[0], min(value, _WHOLE[1])))
    text = value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return Variant("s", text.replace("\0", "\\x00"))  # the bus disconnects who sends a NUL


@contextlib.contextmanager
def _answering() -> Iterator[None]:
    """Turn every exception into a D-Bus error without a traceback."""
    try:
        yield
    except DBusError:
        raise
    except Exception as error:  # noqa: BLE001  a call that fails harms nothing but itself
        raise _error(words(error)) from None


def _error(text: str) -> Exception:
    return DBusError(f"{NAME}.Error", text)


def _text(given: Any, what: str) -> str:
    """Return a caller's argument if it is a string of acceptable length; raises DBusError."""
    if not isinstance(given, str):
        raise _error(f"{what} is a text")
    if len(given) > _LONGEST:
        raise _error(f"{what} has {len(given)} characters, {_LONGEST} is the most")
    return given


def describe(scope: Scope) -> dict[str, Any]:
    """Return a scope as an entry of List."""
    return {
        "unit": scope.unit,
        "cgroup": scope.cgroup,
        "session": scope.session,
        "label": scope.label,
        "session_id": scope.session_id,
        "lane": scope.lane,
        "run": scope.run,
        "kind": scope.kind,
        "lifetime": scope.lifetime,
        "state": scope.state,
        "members": len(scope.living_members),
        "processes": len(scope.pids),
        "created": scope.created,
    }


class Interface(ServiceInterface):
    """The keeper's methods and signals."""

    _bus: MessageBus

    def __init__(self, keeper: Keeper, mount: str) -> None:
        super().__init__(NAME)
        self._keeper = keeper
        self._mount = mount

    def export_to(self, bus: MessageBus) -> None:
        """Answer calls on this bus."""
        self._bus = bus
        bus.add_message_handler(lambda message: _sender.set(message.sender) and None)
        bus.export(PATH, self)

    @method()
    def List(self) -> "aa{sv}":
        """Return the scopes."""
        with _answering():
            return [_variants(describe(scope)) for scope in self._keeper.scopes_now()]

    @method()
    async def Stop(self, selector: "a{sv}", reason: "s") -> "aa{sv}":
        """Stop what session, lane, run, session_id, name, owner or unit select.

        Also what was launched from there, as the command ``stop`` does.
        """
        with _answering():
            named, snapshot = self._named(selector)
            text = _text(reason, "the reason")
            cause = Cause(Reason.STOPPED, text, await self._asker())
            done = await self._keeper.stop_named(named, snapshot, cause)
            self._keeper.look_at_all()
            return [
                _variants(
                    {
                        "unit": part.selected.scope.unit,
                        "member": part.selected.member.name if part.selected.member else "",
                        "outcome": result.outcome,
                        "terminated": result.terminated,
                        "killed": result.killed,
                        "problem": result.problem,
                    }
                )
                for part, result in done
            ]

    @method()
    async def Adopt(self, selector: "a{sv}", owner_pid: "u") -> "aa{sv}":
        """Make a process the owner of what is selected and has lost its owner."""
        with _answering():
            if not 0 < owner_pid <= _PIDS:
                raise _error(f"{owner_pid} is no pid")
            selected = self._select(selector)
            owner = find_owner(Caller(), str(owner_pid))
            adopted = await asyncio.to_thread(adopt.adopt, selected, owner)
            self._keeper.look_at_all()
            return [
                _variants(
                    {
                        "unit": each.selected.scope.unit,
                        "member": each.member.name,
                        "adopted": not each.problem,
                        "problem": each.problem,
                    }
                )
                for each in adopted
            ]

    @method()
    async def Label(self, selector: "a{sv}", label: "s") -> "aa{sv}":
        """Give the selected scopes a second name of their session; '' removes it."""
        with _answering():
            wanted = label and given_label.check(_text(label, "the label"))
            named, snapshot = self._named(selector)
            done = await asyncio.to_thread(given_label.label, named.selected, wanted, snapshot)
            self._keeper.look_at_all()
            return [
                _variants(
                    {
                        "unit": each.scope.unit,
                        "label": each.label,
                        "labelled": not each.problem,
                        "problem": each.problem,
                    }
                )
                for each in done
            ]

    @method()
    def Reconcile(self) -> "aa{sv}":
        """Return the current plan; the keeper carries it out by itself."""
        with _answering():
            scopes = self._keeper.scopes_now()
            actions = plan(Snapshot(scopes, proc.boottime()), self._keeper.policy)
            self._keeper.look_at_all()
            return [
                _variants(
                    {
                        "unit": action.scope.unit,
                        "member": action.member.name if action.member else "",
                        "class": action.verdict.value,
                        "action": action.step.value,
                        "evidence": action.evidence,
                    }
                )
                for action in actions
            ]

    async def _asker(self) -> Stopper:
        """Return the calling process as the bus knows it; pid 0 if it is gone."""
        reply = await self._bus.call(
            Message(
                destination="org.freedesktop.DBus",
                path="/org/freedesktop/DBus",
                interface="org.freedesktop.DBus",
                member="GetConnectionCredentials",
                signature="s",
                body=[_sender.get()],
            )
        )
        if reply is None or reply.message_type is not MessageType.METHOD_RETURN:
            return Stopper(0, os.getuid(), "D-Bus")
        known = reply.body[0]
        pid, uid = known["ProcessID"].value, known["UnixUserID"].value
        return observe.described(pid, uid)

    def _select(self, given: dict[str, Any]) -> list[Selected]:
        return list(self._named(given)[0].selected)

    def _named(self, given: dict[str, Any]) -> tuple[Named, Snapshot]:
        unknown = sorted(given.keys() - {*_SELECTORS, "unit"})
        if unknown:
            raise _error(f"cannot select by {', '.join(unknown)[:_LONGEST]}")
        wanted: dict[str, Any] = {key: _text(each.value, key) for key, each in given.items()}
        for key, text in wanted.items():
            if not text and key != "run":  # a scope may have no run
                raise _error(f"{key} is empty; give it a value, or leave it out")
        unit = wanted.pop("unit", None)
        selector = Selector(**wanted, units=frozenset() if unit is None else frozenset([unit]))
        if selector.names_nothing():
            raise _error("the selector is empty: give session or unit")
        snapshot = Snapshot(self._keeper.scopes_now())
        return Named(tuple(select(snapshot, selector)), selector), snapshot

    @signal()
    def ScopeStarted(self, what: "a{sv}") -> "a{sv}":
        """A scope exists."""
        return what

    @signal()
    def ScopeLabelled(self, what: "a{sv}") -> "a{sv}":
        """A scope has got another label, or has lost it."""
        return what

    @signal()
    def MemberStarted(self, what: "a{sv}") -> "a{sv}":
        """A command runs in a scope."""
        return what

    @signal()
    def MemberEnded(self, what: "a{sv}") -> "a{sv}":
        """No process of a member is left; carries the reason."""
        return what

    @signal()
    def ScopeEnded(self, what: "a{sv}") -> "a{sv}":
        """A scope is gone."""
        return what

    @signal()
    def OrphanFound(self, what: "a{sv}") -> "a{sv}":
        """A member has lost its owner."""
        return what

    @signal()
    def RunWarning(self, what: "a{sv}") -> "a{sv}":
        """A run will be stopped soon unless something changes."""
        return what

    @signal()
    def ProcessEscaped(self, what: "a{sv}") -> "a{sv}":
        """A process was found outside of its scope."""
        return what

    @signal()
    def MemoryHigh(self, what: "a{sv}") -> "a{sv}":
        """A scope or member has passed a share of its memory limit."""
        return what

    @signal()
    def ScratchHigh(self, what: "a{sv}") -> "a{sv}":
        """The scratch folder of a member has passed its scratch_max."""
        return what

    def emit(self, notice: notices.Notice) -> None:
        """Send a notice as the signal of the same name."""
        values = _variants(notices.fields(notice))
        name = values.pop("event").value
        getattr(self, name)(values)


async def _connect(address: str) -> MessageBus:
    bus = MessageBus(address)
    if hasattr(bus, "_stream"):  # dbus-fast reads from the socket itself, as compiled code
        bus._stream = Sieve(bus._stream)  # type: ignore[assignment]  # noqa: SLF001
        bus._unmarshaller = bus._create_unmarshaller()  # noqa: SLF001
    await bus.connect()
    bus._writer.sock = Patient(bus._writer.sock)  # noqa: SLF001
    return bus


async def serve(interface: Interface, uid: int, joined: Callable[[], None]) -> None:
    """Serve on a uid's bus until it disconnects: the system bus for root, else the user's bus.

    The bus decides who may call and listen: a user's bus admits that user and root, and on the
    system bus units/org.scopekeeper.Keeper1.conf admits only root. joined is called once the name
    is owned. Always raises ScopekeeperError in the end, at the latest when the bus disconnects.
    """
    try:
        address = SYSTEM_BUS if uid == 0 else f"/run/user/{uid}/bus"
        bus = await _connect(f"unix:path={address}")
        interface.export_to(bus)
        await bus.request_name(NAME)
    except Exception as error:  # noqa: BLE001  as below
        raise ScopekeeperError(f"the bus cannot be reached: {error}") from None
    joined()
    try:
        await bus.wait_for_disconnect()
    except Exception as error:  # noqa: BLE001  the library raises anything from its reader
        words = f": {error}" if str(error) else ""
        raise ScopekeeperError(f"the bus has ended{words}") from None
    finally:
        bus.disconnect()  # a connection that is left open keeps the name, and answers nobody
    raise ScopekeeperError("the bus has ended")
