"""The options of ``run`` as Python values."""

import datetime as dt
import math
import os
from typing import Literal, TypedDict

from scopekeeper.errors import UsageError
from scopekeeper.launch.request import Request

Duration = dt.timedelta | float | str
"""A timedelta, seconds, or text as ``run`` has it (``90s``)."""
Limit = int | float | str
"""A number (of bytes, for memory), ``math.inf``, or text as ``run`` has it (``2G``)."""


class Options(TypedDict, total=False):
    """The options of ``run``.

    What is None or missing comes from this process's environment, as with ``run``:
    ``SCOPEKEEPER_SESSION`` and so on.
    """

    run: str | None
    session_id: str | None
    kind: Literal["mcp", "pty", "exec"] | None
    lifetime: Literal["gateway", "session", "detached"] | None
    owner: int | None
    ttl: Duration | None
    grace: Duration | None
    memory_max: Limit | None
    memory_high: Limit | None
    tasks_max: Limit | None
    cpu_weight: int | None
    member_memory_max: Limit | None
    member_tasks_max: Limit | None
    placement: str | None
    no_bus: bool
    if_unavailable: Literal["fail", "warn"] | None


def texts(session: str | None, lane: str | None, given: Options) -> dict[str, str]:
    """Return the options as ``run`` reads them; raises UsageError."""
    unknown = sorted(given.keys() - Options.__annotations__.keys())
    if unknown:
        raise TypeError(f"there is no option {unknown[0]!r}")
    found = {
        name: _text(name, value)
        for name, value in {"session": session, "lane": lane, **given}.items()
        if value is not None and value is not False
    }
    try:
        Request(found, dict(os.environb), "command")
    except ValueError as error:
        raise UsageError(str(error)) from None
    return found


def duration(name: str, value: Duration) -> str:
    """Return a duration as ``run`` reads it; raises UsageError."""
    return _text(name, value)


def _text(name: str, value: object) -> str:
    if value is True:
        return "1"
    if isinstance(value, str):
        return value
    if isinstance(value, dt.timedelta):
        return f"{round(value.total_seconds() * 1e6)}us"
    if isinstance(value, int | float) and not isinstance(value, bool):
        if name in ("ttl", "grace", "within"):
            return f"{round(value * 1e6)}us" if math.isfinite(value) else str(value)
        if value == math.inf:
            return "infinity"
        if isinstance(value, int) or value.is_integer():
            return str(int(value))
    raise UsageError(f"{name}={value!r} is not a valid value")
