"""The options of ``run`` as Python values."""

import datetime as dt
import math
import os
import re
from typing import Literal, TypedDict

from scopekeeper.errors import ScopekeeperError, UsageError
from scopekeeper.launch.request import Request

Duration = dt.timedelta | float | str
"""A timedelta, seconds, or text as ``run`` has it (``90s``)."""
Limit = int | float | str
"""A number (of bytes, for memory), ``math.inf``, or text as ``run`` has it (``2G``)."""


class Options(TypedDict, total=False):
    """More arguments of ``Cohort``, ``spawn`` and ``spawn_async``: the options of ``run``.

    What is None or missing comes from this process's environment, as with ``run``:
    ``SCOPEKEEPER_SESSION`` and so on. A Duration is a timedelta, seconds, or text such as ``90s``;
    a Limit is a number, ``math.inf``, or text such as ``2G``.
    """

    run: str | None
    """Gives the run a scope of its own within session and lane."""
    session_id: str | None
    """The gateway's id of one life of the session."""
    kind: Literal["mcp", "pty", "exec"] | None
    """The kind of the command, by default ``mcp``."""
    lifetime: Literal["gateway", "session", "detached"] | None
    """What the member ends with, by default ``session`` for a pty, else ``gateway``."""
    owner: int | None
    """The gateway's pid, by default the service that this process is part of, else this process."""
    ttl: Duration | None
    """End the scope after this time."""
    grace: Duration | None
    """Between SIGTERM and SIGKILL, by default 5 s; of a cohort also in a scope that has another."""
    memory_max: Limit | None
    """Bytes for a new scope."""
    memory_high: Limit | None
    """Bytes above which a new scope is throttled."""
    memory_swap_max: Limit | None
    """Bytes of swap for a new scope; 0 for none."""
    tasks_max: Limit | None
    """Tasks in a new scope."""
    cpu_weight: int | None
    """Of a new scope, from 1 to 10000."""
    member_memory_max: Limit | None
    """Bytes for the member."""
    member_memory_swap_max: Limit | None
    """Bytes of swap for the member; 0 for none."""
    member_tasks_max: Limit | None
    """Tasks in the member."""
    placement: str | None
    """Where to make the scope: ``auto``, ``user``, ``system`` or ``cgroup:PATH``."""
    no_bus: bool
    """Remove the addresses of the session bus and the user's manager from its environment."""
    if_unavailable: Literal["fail", "warn"] | None
    """What to do if no scope can be made, by default ``fail``."""


_TEXTS = (
    "session", "lane", "run", "session_id", "kind", "lifetime", "placement", "if_unavailable",
)  # fmt: skip
_DURATIONS = ("ttl", "grace", "within", "timeout")
_ARGUMENTS = (*Options.__annotations__, "session", "lane", "name", "replace", "within", "timeout")
_NAMES = "|".join(sorted((each.replace("_", "-") for each in _ARGUMENTS), key=len, reverse=True))
_OPTION = re.compile(
    rf"--({_NAMES})\b(?!-)(?:: (?=')| (?=(?:system|user|cgroup:|\d+: )))?"
    r"|(?<=unknown )(if-unavailable) "
)
"""An option of ``run``; with what is between it and its value."""


def texts(session: str | None, lane: str | None, given: Options) -> dict[str, str]:
    """Return the options as ``run`` reads them; raises UsageError."""
    unknown = sorted(given.keys() - Options.__annotations__.keys())
    if unknown:
        raise TypeError(f"there is no option {unknown[0]!r}")
    for name, value in {"session": session, "lane": lane, **given}.items():
        if name in _TEXTS and value is not None:
            plain_text(name, value)
        if name in _DURATIONS and value is not None:
            _check_positive(name, value)
    found = {
        name: _text(name, value)
        for name, value in {"session": session, "lane": lane, **given}.items()
        if value is not None and value is not False
    }
    try:
        Request(found, dict(os.environb), "command")
    except ValueError as error:
        raise UsageError(in_python(str(error))) from None
    return found


def in_python(text: str) -> str:
    """Return an error's text with the names of arguments instead of those of options.

    ``--memory-max: '4Q' is not a size`` becomes ``memory_max='4Q' is not a size``.
    """
    return _OPTION.sub(lambda found: f"{(found[1] or found[2]).replace('-', '_')}=", text)


def renamed(error: ScopekeeperError) -> ScopekeeperError:
    """Return the same error, with the names of arguments in its text."""
    error.message, error.hint = in_python(error.message), in_python(error.hint)
    return error


def duration(name: str, value: Duration) -> str:
    """Return a duration as ``run`` reads it; raises UsageError."""
    _check_positive(name, value)
    return _text(name, value)


def seconds(name: str, given: Duration) -> float:
    """Return a duration in seconds; raises UsageError."""
    from scopekeeper import quantities

    try:
        return quantities.duration(name, duration(name, given)) / 1e6
    except ValueError as error:
        raise UsageError(in_python(str(error))) from None


def plain_text(name: str, value: object) -> str:
    """Return a value that has to be text; raises UsageError."""
    if isinstance(value, str):
        return value
    raise UsageError(f"{name}={value!r} is not text", f"give text, such as {name}={str(value)!r}")


def _check_positive(name: str, value: object) -> None:
    """Raise UsageError, with the value as it was given, for a time before now."""
    span = value.total_seconds() if isinstance(value, dt.timedelta) else value
    if isinstance(span, int | float) and span < 0:
        raise UsageError(f"{name}={value!r} is negative", "give 0 or more")


def _text(name: str, value: object) -> str:
    if value is True:
        return "1"
    if isinstance(value, str):
        return value
    if isinstance(value, dt.timedelta):
        return f"{round(value.total_seconds() * 1e6)}us"
    if isinstance(value, int | float) and not isinstance(value, bool):
        if name in _DURATIONS:
            return f"{round(value * 1e6)}us" if math.isfinite(value) else str(value)
        if value == math.inf:
            return "infinity"
        if isinstance(value, int) or value.is_integer():
            return str(int(value))
    how = "seconds, a timedelta, or text as '90s'" if name in _DURATIONS else "a number or text"
    raise UsageError(f"{name}={value!r} is not valid", f"give {how}")
