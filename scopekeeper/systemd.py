"""Calls to a systemd manager, through pystemd; only where cgroupfs cannot tell or do it."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from scopekeeper import names
from scopekeeper.errors import ManagerError


@contextlib.contextmanager
def _manager(kind: str) -> Iterator[Any]:
    """Yield the manager interface of ``system`` or ``user``; raises ManagerError."""
    from pystemd.dbuslib import DBus, DBusAddress
    from pystemd.systemd1 import Manager

    if kind == "system":
        bus = DBus()
    else:
        # not by the environment: an MCP client passes no bus address on
        bus = DBusAddress(f"unix:path=/run/user/{os.getuid()}/bus".encode())
    try:
        with bus, Manager(bus=bus) as manager:
            yield manager.Manager
    except Exception as error:
        if isinstance(error, ManagerError):
            raise
        raise ManagerError(f"the {kind} manager: {_words(error)}") from error


def scope_units(kind: str) -> frozenset[str]:
    """Return the names of our scope units that are not inactive or failed."""
    with _manager(kind) as manager:
        listed = manager.ListUnitsByPatterns([], [f"{names.PREFIX}*{names.SUFFIX}"])
        return frozenset(
            unit[0].decode() for unit in listed if unit[3] not in (b"inactive", b"failed")
        )


def stop_unit(kind: str, unit: str) -> bool:
    """Queue a stop of the unit; False where systemd does not know it."""
    try:
        with _manager(kind) as manager:
            manager.StopUnit(unit.encode(), b"replace")
    except ManagerError as error:
        if "NoSuchUnit" in str(error) or "not loaded" in str(error):
            return False
        raise
    return True


def version(kind: str) -> str:
    """Return the manager's version, as ``257`` or ``252.39-1~deb12u1``."""
    with _manager(kind) as manager:
        return str(manager.Version.decode())


def _words(error: Exception) -> str:
    parts = [p.decode("utf-8", "replace") if isinstance(p, bytes) else str(p) for p in error.args]
    return " ".join(parts) or type(error).__name__
