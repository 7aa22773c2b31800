"""Asks a systemd manager for a scope, and asks again what became of it.

Over the bus where there is one, which is there in 0.2 ms; else over the manager's own socket, which
needs no bus daemon, but takes systemd 1.4 ms to open (both measured with 252 and 257). Only for
``run``: everything else goes through pystemd.
"""

import _socket
import time

from scopekeeper.errors import ManagerError, UnavailableError
from scopekeeper.launch import wire
from scopekeeper.launch.place import Place, cgroup_of

_NAME = "org.freedesktop.systemd1"
_PATH = "/org/freedesktop/systemd1"
_INTERFACE = "org.freedesktop.systemd1.Manager"
_DEADLINE = 30.0
"""Seconds that a manager may take; systemd's own clients wait 25 for an answer."""
_FIRST_LOOK, _LONGEST_LOOK, _ASK_SECONDS = 0.0002, 0.005, 0.5
"""Seconds between looks at our own cgroup, and between questions what became of a job."""


class CallError(ManagerError):
    """The manager answered with an error; name is the D-Bus one, without its prefix."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name.rpartition(".")[2]
        super().__init__(f"systemd refused: {text or name}")


class Manager:
    """One connection to the manager of a place; close it with ``with``."""

    def __init__(self, place: Place) -> None:
        self._serial = 0
        self._rest = b""
        self.deadline = time.monotonic() + _DEADLINE
        self._socket = self._connect(place)

    def __enter__(self) -> "Manager":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _connect(self, place: Place) -> _socket.socket:
        if place.manager == "system":
            addresses = ("/run/dbus/system_bus_socket", "/run/systemd/private")
        else:
            run = f"/run/user/{place.uid}"
            addresses = (f"{run}/bus", f"{run}/systemd/private")
        failures = []
        for address in addresses:
            self._socket = _socket.socket(
                _socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC
            )
            self._socket.settimeout(_DEADLINE)
            try:
                self._socket.connect(address)
                self._authenticate()
                if "/systemd/private" not in address:
                    self.call("Hello", path="/org/freedesktop/DBus", name="org.freedesktop.DBus")
            except OSError as error:
                self._socket.close()
                failures.append(f"{address}: {error.strerror or error}")
            else:
                return self._socket
        raise UnavailableError(f"the {place.manager} manager does not answer ({failures[-1]})")

    def _authenticate(self) -> None:
        # The kernel tells the other side who we are, so no uid is said: right in user namespaces.
        self._socket.sendall(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")
        answer = b""
        while answer.count(b"\r\n") < 2:  # DATA and OK
            chunk = self._socket.recv(4096)
            if not chunk or answer.startswith(b"REJECTED"):
                raise OSError("the login was refused")
            answer += chunk
        # A private connection gets signals from BEGIN on: they may come with the end of the login.
        _, accepted, self._rest = answer.split(b"\r\n", 2)
        if not accepted.startswith(b"OK"):
            raise OSError("the login was refused")

    def call(
        self,
        member: str,
        signature: str = "",
        values: tuple[object, ...] = (),
        *,
        path: str = _PATH,
        name: str = _NAME,
        interface: str = "",
    ) -> list[str]:
        """Call a method and return the strings of its answer; raises CallError."""
        self._serial += 1
        interface = interface or (_INTERFACE if name == _NAME else name)
        self._socket.sendall(
            wire.call(self._serial, name, path, interface, member, signature, values)
        )
        while True:
            message = self.receive()
            if message is None:
                raise UnavailableError(f"systemd did not answer within {_DEADLINE:.0f} s")
            if message.reply_to == self._serial:
                if message.kind == wire.ERROR:
                    raise CallError(message.error, "".join(message.strings()[:1]))
                return message.strings()

    def receive(self, seconds: float = _DEADLINE) -> wire.Message | None:
        """Wait for a message; None when none came in time."""
        self._socket.settimeout(seconds)
        while True:
            if len(self._rest) >= 16:
                length = wire.length_of(self._rest)
                if len(self._rest) >= length:
                    raw, self._rest = self._rest[:length], self._rest[length:]
                    return wire.Message(raw)
            try:
                chunk = self._socket.recv(65536)
            except TimeoutError:
                return None
            if not chunk:
                raise UnavailableError("systemd closed the connection")
            self._rest += chunk

    def start_scope(self, unit: str, properties: list[tuple[str, tuple[str, object]]]) -> None:
        """Make a scope with this process in it, and wait until it is there.

        Raises CallError (``UnitExists`` where there is one of that name), ManagerError.
        """
        job = self.call("StartTransientUnit", "ssa(sv)a(sa(sv))", (unit, "fail", properties, ()))[0]
        # The answer only says that the job is queued; that it was done shows in our own cgroup.
        began = time.monotonic()
        pause, ask_again = _FIRST_LOOK, began + _ASK_SECONDS
        while not cgroup_of().endswith("/" + unit):
            now = time.monotonic()
            if now > self.deadline:
                raise ManagerError(f"systemd did not start {unit} within {_DEADLINE:.0f} s")
            if now > ask_again:
                # a scope that failed is forgotten at once: CollectMode=inactive-or-failed
                if self.unit_property(unit, "Unit", "ActiveState") in ("", "failed"):
                    raise ManagerError(f"systemd could not start {unit} ({job} failed)")
                ask_again = now + _ASK_SECONDS
            time.sleep(pause)
            if now - began > _LONGEST_LOOK:
                pause = min(1.5 * pause, _LONGEST_LOOK)

    def attach(self, unit: str, leaf: str) -> None:
        """Move this process into a leaf of a scope, where it may not write itself there."""
        self.call("AttachProcessesToUnit", "ssau", (unit, "/" + leaf, [0]))

    def unit_property(self, unit: str, interface: str, name: str) -> str:
        """Return a property that is a string or a boolean ('yes'); '' for a unit not loaded."""
        try:
            path = self.call("GetUnit", "s", (unit,))[0]
            answer = self.call(
                "Get",
                "ss",
                (f"{_NAME}.{interface}", name),
                path=path,
                interface="org.freedesktop.DBus.Properties",
            )
        except CallError as error:
            if error.name in ("NoSuchUnit", "UnknownObject", "UnknownMethod"):
                return ""
            raise
        return answer[0]

    def reset_failed(self, unit: str) -> None:
        """Let go of a unit that failed and keeps its name; nothing where it did not."""
        try:
            self.call("ResetFailedUnit", "s", (unit,))
        except CallError:
            return


def scope_properties(
    description: str,
    slice_name: str,
    bound_to: str,
    settings: dict[str, int],
    pid: int = 0,
) -> list[tuple[str, tuple[str, object]]]:
    """Return the properties of a new scope around the calling process.

    bound_to is the owner's unit where the scope has to end with it: ``BindsTo=`` covers its stop
    and its crash, ``StopPropagatedFrom=`` its restart (where systemd passes that on, from 254),
    and ``Before=`` keeps the scope alive while a stopping owner drains. settings are properties
    of type t by their D-Bus names. pid is ours where systemd has the same numbers; 0 means whoever
    sends this, in whatever PID namespace, which systemd has to ask the bus about.
    """
    properties: list[tuple[str, tuple[str, object]]] = [
        ("Description", ("s", description)),
        ("Slice", ("s", slice_name)),
        ("Delegate", ("b", True)),
        ("CollectMode", ("s", "inactive-or-failed")),
        ("PIDs", ("au", [pid])),
    ]
    if bound_to:
        properties += [
            ("BindsTo", ("as", [bound_to])),
            ("Before", ("as", [bound_to])),
            ("StopPropagatedFrom", ("as", [bound_to])),
        ]
    properties += [(name, ("t", value)) for name, value in settings.items()]
    return properties
