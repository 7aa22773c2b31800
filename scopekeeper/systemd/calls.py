"""Calls to a systemd manager through pystemd, for everything but the hot path of ``run``.

Every function takes the kind of manager, ``system`` or ``user``, and raises ManagerError.
"""

import contextlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from scopekeeper.errors import ManagerError
from scopekeeper.systemd.units import SYSTEM_BUS

_NAME = b"org.freedesktop.systemd1"


def _open(kind: str) -> Any:  # noqa: ANN401  pystemd is untyped
    """Open the bus of a manager; without a bus, the manager's own socket, as systemctl does."""
    if "site" not in sys.modules:  # the fast launcher starts Python without its packages
        import site

        site.main()
    from pystemd.dbuslib import DBusAddress

    if kind == "system":
        runtime, address = "/run", SYSTEM_BUS
    else:
        # The address is derived: an MCP client does not pass DBUS_SESSION_BUS_ADDRESS on.
        runtime = f"/run/user/{os.getuid()}"
        address = f"{runtime}/bus"
    bus = DBusAddress(f"unix:path={address}".encode())
    try:
        bus.open()
    except Exception:
        bus.close()
        own = DBusAddress(f"unix:path={runtime}/systemd/private".encode(), True)
        try:
            own.open()
        except Exception:  # noqa: BLE001  the error of the bus says more
            own.close()
        else:
            return own
        raise
    return bus


@contextlib.contextmanager
def _bus(kind: str) -> Iterator[Any]:
    try:
        with contextlib.closing(_open(kind)) as bus:
            yield bus
    except ManagerError:
        raise
    except Exception as error:
        raise ManagerError(f"the {kind} manager: {_words(error)}") from error


@contextlib.contextmanager
def _manager(kind: str) -> Iterator[Any]:
    with _bus(kind) as bus:
        from pystemd.systemd1 import Manager

        with Manager(bus=bus) as manager:
            yield manager.Manager


@contextlib.contextmanager
def _unit(kind: str, name: str) -> Iterator[Any]:
    """Yield a unit by its name."""
    with _bus(kind) as bus:
        from pystemd.systemd1 import Unit

        with Unit(name.encode(), bus=bus) as unit:
            yield unit


def listed_units(kind: str, pattern: str) -> dict[str, str]:
    """Return the loaded units that match a glob pattern, each with its ActiveState."""
    with _manager(kind) as manager:
        listed = manager.ListUnitsByPatterns([], [pattern])
        return {unit[0].decode(): unit[3].decode() for unit in listed}


def living_units(kind: str, pattern: str) -> frozenset[str]:
    """Return the names of the units that match a glob pattern and are not inactive or failed."""
    listed = listed_units(kind, pattern).items()
    return frozenset(unit for unit, state in listed if state not in ("inactive", "failed"))


def unit_files(kind: str, pattern: str) -> dict[str, str]:
    """Return the unit files that match a glob pattern by name, each as ``enabled`` or another."""
    with _manager(kind) as manager:
        listed = manager.ListUnitFilesByPatterns([], [pattern])
        return {os.path.basename(path.decode()): state.decode() for path, state in listed}


def unit_folders(kind: str) -> list[str]:
    """Return the folders from which a manager reads units."""
    with _manager(kind) as manager:
        return [folder.decode() for folder in manager.UnitPath]


def let_go(kind: str, invocation: str, directory: str) -> bool:
    """Queue a stop of a scope in which nothing lives; return False if systemd has forgotten it.

    Stops only the unit with this invocation ID, and only if that directory is its cgroup: another
    scope may have the name by now, even the directory. Many launches may call this at once, so it
    does not ask for the unit's interfaces first, which takes systemd longer than both calls.
    """
    if not invocation:
        return False
    try:
        with _bus(kind) as bus:
            from pystemd.dbuslib import apply_signature, path_encode

            path = path_encode(b"/org/freedesktop/systemd1/unit", invocation.encode())
            group = bus.get_property(_NAME, path, _NAME + b".Scope", b"ControlGroup", b"s").decode()
            if not group or not directory.endswith(group):
                return False
            mode = apply_signature(b"s", [b"replace"])
            bus.call_method(_NAME, path, _NAME + b".Unit", b"Stop", mode)
    except ManagerError as error:
        if "invocation ID" in str(error) or "not loaded" in str(error):
            return False
        raise
    return True


def unit_property(kind: str, unit: str, name: str) -> str:
    """Return a property that every unit has as text, ``ActiveState`` for instance."""
    with _unit(kind, unit) as found:
        return _text(getattr(found.Unit, name))


def service_property(kind: str, unit: str, name: str) -> str:
    """Return a property of a service as text."""
    with _unit(kind, unit) as found:
        return _text(getattr(found.Service, name))


def service_end(kind: str, unit: str) -> tuple[str, int, int]:
    """Return how a service ended: Result=, ExecMainCode= and ExecMainStatus=.

    ``("success", 0, 0)`` of one that is not loaded.
    """
    with _unit(kind, unit) as found:
        service = found.Service
        return _text(service.Result), int(service.ExecMainCode), int(service.ExecMainStatus)


def scope_result(kind: str, unit: str) -> str:
    """Return how a scope ended that is still loaded, ``oom-kill`` for instance."""
    with _unit(kind, unit) as found:
        return _text(found.Scope.Result)


def exec_start(kind: str, unit: str) -> tuple[tuple[str, ...], ...]:
    """Return the commands of ExecStart= of a service: the path of each, then its arguments."""
    with _unit(kind, unit) as found:
        return tuple(
            (os.fsdecode(path), *map(os.fsdecode, words[1:]))
            for path, words, *_ in found.Service.ExecStart
        )


def start_unit(kind: str, unit: str) -> None:
    """Queue the start of a unit."""
    with _manager(kind) as manager:
        manager.StartUnit(unit.encode(), b"replace")


def start_transient(kind: str, unit: str, properties: Mapping[str, tuple[str, object]]) -> None:
    """Queue the start of a unit without a file; each property is a D-Bus signature and a value.

    pystemd's own StartTransientUnit refuses properties that it does not know.
    """
    with _bus(kind) as bus:
        from pystemd.dbuslib import apply_signature

        arguments = apply_signature(b"ss", [unit.encode(), b"fail"])
        arguments.append((ord("a"), b"(sv)"))
        for name, (signature, value) in properties.items():
            kinds = signature.encode()
            arguments += [(ord("r"), b"sv"), (ord("s"), name.encode()), (ord("v"), kinds)]
            arguments += [*apply_signature(kinds, [value]), (-1, None), (-1, None)]
        arguments += [(-1, None), *apply_signature(b"a(sa(sv))", [[]])]
        bus.call_method(
            _NAME,
            b"/org/freedesktop/systemd1",
            _NAME + b".Manager",
            b"StartTransientUnit",
            arguments,
        )


def reset_failed(kind: str, unit: str) -> None:
    """Have a manager forget that a unit failed, and how often it was started."""
    with _manager(kind) as manager:
        manager.ResetFailedUnit(unit.encode())


def has_ended(kind: str, unit: str) -> bool:
    """Return whether a unit does not run and has no job."""
    with _unit(kind, unit) as found:
        job, _ = found.Unit.Job
        return not job and found.Unit.ActiveState in (b"inactive", b"failed")


def reload(kind: str) -> None:
    """Have a manager read its unit files again."""
    with _manager(kind) as manager:
        manager.Reload()


def version(kind: str) -> str:
    """Return a manager's version, as ``257`` or ``252.39-1~deb12u1``."""
    with _manager(kind) as manager:
        return str(manager.Version.decode())


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _words(error: Exception) -> str:
    parts = [p.decode("utf-8", "replace") if isinstance(p, bytes) else str(p) for p in error.args]
    text = " ".join(parts).partition("\n")[0]  # pystemd adds a long explanation
    number = re.match(r"\[err -(\d+)\]", text)
    return f"{text} ({os.strerror(int(number[1]))})" if number else text or type(error).__name__
