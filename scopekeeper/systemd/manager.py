"""Asks a systemd manager for a scope and waits until it is there; for the hot path of ``run``.

Uses the bus if there is one (0.2 ms to connect), otherwise the manager's own socket, which needs
no bus daemon but takes systemd 1.4 ms (both measured with 252 and 257). Everything off the hot path
goes through ``calls``.
"""

import _socket
import posix
import time

from scopekeeper.errors import NO_RUN, NO_SOCKETS, ManagerError, UnavailableError
from scopekeeper.kernel.proc import cgroup_of
from scopekeeper.systemd import dbus_wire
from scopekeeper.systemd.units import SYSTEM_BUS

_NAME = "org.freedesktop.systemd1"
_PATH = "/org/freedesktop/systemd1"
_INTERFACE = "org.freedesktop.systemd1.Manager"
_BUS = "org.freedesktop.DBus"
_PROPERTIES = "org.freedesktop.DBus.Properties"
# No uid: the kernel passes our credentials on, which is right in user namespaces too.
_LOGIN = b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n"
_REFUSED, _HUNG_UP = "the way to systemd refused the login", "the way to systemd hung up"
_DEADLINE = 30.0
"""Seconds that a manager may take; systemd's own clients wait 25 for an answer."""
_FIRST_LOOK, _LONGEST_LOOK, _ASK_SECONDS = 0.0002, 0.005, 0.5
"""Seconds between looks at our own cgroup, and between questions about the job."""
_AWAY = ("NoReply", "ServiceUnknown", "NameHasNoOwner", "Disconnected")
"""What a bus answers for a systemd that executes itself anew (``daemon-reexec``)."""
_FULL = "LimitsExceeded"
"""What a bus answers to the greeting of a user with as many connections as it allows: 256 to the
system bus (dbus-daemon 1.16). A few hundred launches at once have that."""
_AWAY_SECONDS, _AWAY_PAUSE = 10.0, 0.02
"""How long systemd may be away, and the pause before the next attempt."""
_ENOENT, _EACCES, _EPIPE, _EAFNOSUPPORT, _ECONNRESET, _ECONNREFUSED = 2, 13, 32, 97, 104, 111
_NOBODY_LISTENS = (_EPIPE, _ECONNRESET, _ECONNREFUSED)
"""What the manager's own socket answers while that executes itself anew."""
_ROOM = 16384
"""Bytes in the runtime directory without which systemd cannot keep a new scope there."""
_TRIES = 6
"""How often a scope is requested if systemd loses its job, which executing itself anew may do."""


class CallError(ManagerError):
    """The manager answered with an error; name is the D-Bus name without its prefix."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name.rpartition(".")[2]
        super().__init__(f"systemd refused: {text.rstrip('.') or name}")


class AwayError(UnavailableError):
    """The manager went away before it answered; it may have done the call."""


class Manager:
    """One connection to a manager; a context manager.

    Repeats a call if the manager executes itself anew meanwhile.
    """

    def __init__(self, kind: str, uid: int) -> None:
        """Connect to the ``system`` manager, or to the ``user`` manager of a uid."""
        self._kind = kind
        self._run = "/run" if kind == "system" else f"/run/user/{uid}"
        self.deadline = time.monotonic() + _DEADLINE
        self._away_until = 0.0
        self._avoids_bus = False
        """Whether a bus was full or hung up, so that the manager itself is asked."""
        try:
            self._connect()
        except AwayError as error:
            self._await_return(error)

    def __enter__(self) -> "Manager":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _connect(self) -> None:
        self._serial = 0
        self._unsent = self._rest = b""
        self._logged_in = False
        run = self._run
        bus = SYSTEM_BUS if self._kind == "system" else f"{run}/bus"
        self._is_private = self._avoids_bus or not self._can_open(bus)
        if self._is_private:
            self._open_private(f"{run}/systemd/private")
            return
        # A bus accepts the login, the greeting and the first call in one piece (dbus-daemon
        # 1.14 and 1.16, dbus-broker 33).
        self._serial += 1
        hello = dbus_wire.call(self._serial, _BUS, "/org/freedesktop/DBus", _BUS, "Hello")
        self._unsent = _LOGIN + hello

    def _can_open(self, address: str) -> bool:
        try:
            self._open(address)
        except OSError:
            return False
        return True

    def _open_private(self, address: str) -> None:
        """Connect to the manager's own socket; raises UnavailableError, AwayError."""
        try:
            self._open(address)
            self._unsent = _LOGIN
            self._send(b"")
            self._log_in()  # the manager drops a call that comes right behind the login
        except OSError as error:
            kind = AwayError if error.errno in _NOBODY_LISTENS else UnavailableError
            text = f"({address}: {error.strerror or error})"
            raise kind(
                f"the {self._kind} manager does not answer {text}", *_remedy(error)
            ) from None

    def _open(self, address: str) -> None:
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        self._socket.settimeout(_DEADLINE)
        try:
            self._socket.connect(address)
        except OSError:
            self._socket.close()
            raise

    def _send(self, message: bytes) -> None:
        self._socket.sendall(self._unsent + message)
        self._unsent = b""

    def _log_in(self) -> None:
        """Read the answers to the login; signals and replies may follow them at once."""
        while self._rest.count(b"\r\n") < 2:  # DATA and OK
            if self._rest.startswith(b"REJECTED"):
                raise UnavailableError(_REFUSED)
            if not self._read():
                raise self._hung_up()
        _, accepted, self._rest = self._rest.split(b"\r\n", 2)
        if not accepted.startswith(b"OK"):
            raise UnavailableError(_REFUSED)
        self._logged_in = True

    def _read(self) -> bool:
        """Read what has arrived, or wait; return False at the end of the connection."""
        chunk = self._socket.recv(16384)
        self._rest += chunk
        return bool(chunk)

    def call(
        self,
        member: str,
        signature: str = "",
        values: tuple[object, ...] = (),
        *,
        path: str = _PATH,
        interface: str = "",
    ) -> list[str]:
        """Call a method that may run twice, and return the strings of its answer.

        Raises CallError, UnavailableError.
        """
        while True:
            try:
                return self._call_once(member, signature, values, path, interface or _INTERFACE)
            except AwayError as error:
                self._await_return(error)

    def _call_once(
        self, member: str, signature: str, values: tuple[object, ...], path: str, interface: str
    ) -> list[str]:
        """Call a method and return the strings of its answer; raises CallError, AwayError."""
        self._serial += 1
        try:
            self._send(
                dbus_wire.call(self._serial, _NAME, path, interface, member, signature, values)
            )
            while True:
                message = self._receive()
                if message.kind == dbus_wire.ERROR:  # of this call, or of the greeting
                    text, name = "".join(message.strings()[:1]), message.error.rpartition(".")[2]
                    is_full = name == _FULL and not self._is_private
                    self._avoids_bus = self._avoids_bus or is_full
                    if name in _AWAY or is_full:
                        raise AwayError(f"systemd does not answer: {text or message.error}")
                    raise CallError(message.error, text)
                if message.reply_to == self._serial:
                    return message.strings()
        except TimeoutError:
            raise UnavailableError(f"systemd did not answer within {_DEADLINE:.0f} s") from None
        except OSError as error:
            raise self._hung_up(f": {error.strerror}") from None

    def _await_return(self, error: AwayError) -> None:
        """Reconnect to a manager that is away; raises the error if it stays away."""
        self._away_until = self._away_until or time.monotonic() + _AWAY_SECONDS
        while time.monotonic() < min(self._away_until, self.deadline):
            time.sleep(_AWAY_PAUSE)
            self._socket.close()
            try:
                self._connect()
            except UnavailableError:
                continue
            return
        raise error

    def _receive(self) -> dbus_wire.Message:
        """Wait for a message; raises OSError, UnavailableError."""
        if not self._logged_in:
            self._log_in()
        while True:
            if len(self._rest) >= 16:
                length = dbus_wire.length_of(self._rest)
                if len(self._rest) >= length:
                    raw, self._rest = self._rest[:length], self._rest[length:]
                    return dbus_wire.Message(raw)
            if not self._read():
                raise self._hung_up()

    def _hung_up(self, why: str = "") -> AwayError:
        """Return the error for a lost connection; from now on the manager itself is asked."""
        self._avoids_bus = True
        return AwayError(_HUNG_UP + why)

    def start_scope(
        self, unit: str, properties: list[tuple[str, tuple[str, object]]], mode: str = "fail"
    ) -> None:
        """Make a scope with this process in it, and wait until the process is inside.

        mode is that of the job (systemctl(1), ``--job-mode=``). Raises CallError (``UnitExists`` if
        there is one of that name), ManagerError.
        """
        values = (unit, mode, properties, ())
        for attempt in range(_TRIES):
            try:
                self._call_once("StartTransientUnit", "ssa(sv)a(sa(sv))", values, _PATH, _INTERFACE)
                is_ours = True
            except AwayError as error:
                self._await_return(error)
                is_ours = False
            except CallError as error:
                if error.name != "UnitExists":
                    error.hint = self._shortage()
                    raise
                if not attempt:
                    raise
                is_ours = False  # made by the previous call, or by somebody else
            # The answer only says that the job is queued; our own cgroup shows that it is done.
            if self._await_move(unit, is_ours=is_ours):
                return
        raise ManagerError(f"systemd could not start {unit} (its job failed)", self._lost_way())

    def _await_move(self, unit: str, *, is_ours: bool) -> bool:
        """Wait until we are in a scope; return False if systemd has none of that name.

        is_ours: the scope is known to be made for us. Raises CallError (``UnitExists``) if it was
        made for somebody else.
        """
        began = time.monotonic()
        pause, ask_again = _FIRST_LOOK, began + _ASK_SECONDS * is_ours
        while not _is_in(unit):
            now = time.monotonic()
            if now > self.deadline:
                raise ManagerError(f"systemd did not start {unit} within {_DEADLINE:.0f} s")
            if now > ask_again:
                state = self.unit_property(unit, "Unit", "ActiveState")
                # systemd forgets a failed scope at once: CollectMode=inactive-or-failed
                if state in ("", "failed"):
                    return _is_in(unit)
                if state == "active" and not is_ours and not _is_in(unit):
                    raise CallError("UnitExists", f"there is a {unit}")
                ask_again = now + _ASK_SECONDS * is_ours
            time.sleep(pause)
            if now - began > _LONGEST_LOOK:
                pause = min(1.5 * pause, _LONGEST_LOOK)
        return True

    def _lost_way(self) -> str:
        """Return what to do about a user's manager that cannot move processes of other slices."""
        if self._kind == "system":
            return ""
        return "if the system's bus was started again: systemctl --user daemon-reexec"

    def _shortage(self) -> str:
        """Return what to do about a full runtime directory, '' if it has room."""
        try:
            seen = posix.statvfs(self._run)
        except OSError:
            return ""
        is_full = seen.f_bavail * seen.f_frsize < _ROOM or not seen.f_favail
        return f"no room is left in {self._run}: make room there" if is_full else ""

    def start_if_possible(self, unit: str) -> None:
        """Queue the start of a unit; do nothing if it cannot be started."""
        try:
            self.call("StartUnit", "ss", (unit, "fail"))
        except CallError:
            return

    def attach(self, unit: str, leaf: str) -> None:
        """Have the manager move this process into a leaf that it may not enter by itself."""
        self.call("AttachProcessesToUnit", "ssau", (unit, "/" + leaf, [0]))

    def unit_property(self, unit: str, interface: str, name: str) -> str:
        """Return a string property, or a boolean as 'yes' or 'no'; '' if the unit is not loaded."""
        try:
            path = self.call("GetUnit", "s", (unit,))[0]
        except CallError as error:
            if error.name == "NoSuchUnit":
                return ""
            raise
        return self._get(path, interface, name)

    def service_setting(self, unit: str, name: str) -> str:
        """Return the same of a service that runs, in one call: systemd loads what is not loaded."""
        return self._get(object_of(unit), "Service", name)

    def _get(self, path: str, interface: str, name: str) -> str:
        wanted = (f"{_NAME}.{interface}", name)
        try:
            return self.call("Get", "ss", wanted, path=path, interface=_PROPERTIES)[0]
        except CallError as error:
            if error.name in ("NoSuchUnit", "UnknownObject", "UnknownMethod"):
                return ""
            raise

    def reset_failed(self, unit: str) -> None:
        """Free the name of a unit that failed; do nothing if it did not fail."""
        try:
            self.call("ResetFailedUnit", "s", (unit,))
        except CallError:
            return


def _remedy(error: OSError) -> tuple[str, ...]:
    """Return what a service has to change, () if its own settings are not known to cause it."""
    if error.errno == _EAFNOSUPPORT:
        return (NO_SOCKETS,)
    return (NO_RUN,) if error.errno in (_ENOENT, _EACCES) else ()


def object_of(unit: str) -> str:
    """Return the object path of a unit, as sd_bus_path_encode(3) makes it."""
    escaped = "".join(
        chr(byte) if chr(byte).isalnum() and byte < 128 and (at or byte > 57) else f"_{byte:02x}"
        for at, byte in enumerate(unit.encode())
    )
    return f"{_PATH}/unit/{escaped}"


def _is_in(unit: str) -> bool:
    return cgroup_of().endswith("/" + unit)


def scope_properties(
    description: str,
    slice_name: str,
    bound_to: str,
    settings: dict[str, int],
    pid: int = 0,
) -> list[tuple[str, tuple[str, object]]]:
    """Return the properties of a new scope around the calling process.

    bound_to is the owner's unit if the scope has to end with it: ``BindsTo=`` covers its stop and
    its crash, ``StopPropagatedFrom=`` its restart (since 254), and ``Before=`` keeps the scope
    alive while a stopping owner drains. Such a scope needs the job mode ``ignore-requirements``.
    settings are properties of type t by their D-Bus names. pid is ours if systemd runs in the same
    PID namespace; 0 means the sender of the call, which systemd has to look up on the bus.
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
