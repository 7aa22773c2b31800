"""Calls to a systemd manager, through pystemd; only where cgroupfs cannot tell or do it."""

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any

from scopekeeper.errors import ManagerError


@contextlib.contextmanager
def _bus(kind: str) -> Iterator[Any]:
    """Yield the bus of the ``system`` or the ``user`` manager; raises ManagerError."""
    from pystemd.dbuslib import DBus, DBusAddress

    if kind == "system":
        bus = DBus()
    else:
        # not by the environment: an MCP client passes no bus address on
        bus = DBusAddress(f"unix:path=/run/user/{os.getuid()}/bus".encode())
    try:
        with bus:
            yield bus
    except Exception as error:
        if isinstance(error, ManagerError):
            raise
        raise ManagerError(f"the {kind} manager: {_words(error)}") from error


@contextlib.contextmanager
def _manager(kind: str) -> Iterator[Any]:
    from pystemd.systemd1 import Manager

    with _bus(kind) as bus, Manager(bus=bus) as manager:
        yield manager.Manager


def living_units(kind: str, pattern: str) -> frozenset[str]:
    """Return the names of units, by a glob pattern, that are not inactive or failed."""
    with _manager(kind) as manager:
        listed = manager.ListUnitsByPatterns([], [pattern])
        return frozenset(
            unit[0].decode() for unit in listed if unit[3] not in (b"inactive", b"failed")
        )


def let_go(kind: str, invocation: str, directory: str) -> bool:
    """Queue a stop of a scope in which nothing lives; False where systemd has forgotten it.

    The stop goes to the life of the unit that has this invocation ID, and only if that directory
    is its cgroup: another scope may have the name by now.
    """
    from pystemd.systemd1 import Unit

    if not invocation:
        return False
    try:
        with _bus(kind) as bus, Unit(invocation.encode(), bus=bus) as unit:
            group = unit.Scope.ControlGroup.decode()
            if not group or not directory.endswith(group):
                return False
            unit.Unit.Stop(b"replace")
    except ManagerError as error:
        if "invocation ID" in str(error) or "not loaded" in str(error):
            return False
        raise
    return True


def service_property(kind: str, unit: str, name: str) -> str:
    """Return a property of a service as text; raises ManagerError."""
    from pystemd.systemd1 import Unit

    with _bus(kind) as bus, Unit(unit.encode(), bus=bus) as found:
        value = getattr(found.Service, name)
        return value.decode() if isinstance(value, bytes) else str(value)


def start_unit(kind: str, unit: str) -> None:
    """Queue the start of a unit; raises ManagerError."""
    with _manager(kind) as manager:
        manager.StartUnit(unit.encode(), b"replace")


def reset_failed(kind: str, unit: str) -> None:
    """Have a manager forget that a unit failed, and how often it was started; ManagerError."""
    with _manager(kind) as manager:
        manager.ResetFailedUnit(unit.encode())


def has_ended(kind: str, unit: str) -> bool:
    """Tell whether a unit does not run, and is not about to; raises ManagerError."""
    from pystemd.systemd1 import Unit

    with _bus(kind) as bus, Unit(unit.encode(), bus=bus) as found:
        job, _ = found.Unit.Job
        return not job and found.Unit.ActiveState in (b"inactive", b"failed")


def reload(kind: str) -> None:
    """Let a manager read its unit files again; raises ManagerError."""
    with _manager(kind) as manager:
        manager.Reload()


def version(kind: str) -> str:
    """Return the manager's version, as ``257`` or ``252.39-1~deb12u1``."""
    with _manager(kind) as manager:
        return str(manager.Version.decode())


def _words(error: Exception) -> str:
    parts = [p.decode("utf-8", "replace") if isinstance(p, bytes) else str(p) for p in error.args]
    text = " ".join(parts).partition("\n")[0]  # pystemd explains itself at length
    number = re.match(r"\[err -(\d+)\]", text)
    return f"{text} ({os.strerror(int(number[1]))})" if number else text or type(error).__name__
