"""Keeps a launch from being the one too many for the memory of the machine.

Rules say what must hold before a member starts: how much memory is available (``min_available``),
and how much of the last ten seconds some process waited for memory (``max_pressure``). What cannot
be read refuses nothing.

Loaded only if the rules of a launch demand it; imports builtin modules until the machine is short.
"""

import time

from scopekeeper.kernel import memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from scopekeeper.launch.request import Request
    from scopekeeper.scope.placement import Place

_PAUSE = 0.25
"""Seconds between looks, each of which takes some 30 microseconds."""
_MOST_USEC = 8_000_000
"""How long a launch waits if no rule says; built into the rules too."""
_NAMED = 3
"""Sessions that an error names."""


def pass_gate(request: "Request", where: "Place", say: "Callable[[str], None]") -> None:
    """Return once the machine has the memory that the rules of a launch demand.

    With ``when_short = "wait"`` it waits first, and reports that once. Raises ShortageError.
    """
    lack = shortage(request.gate)
    if lack and request.gate.get("when_short") == "wait":
        lack = _wait(request.gate, lack, say)
    if lack:
        raise _refusal(request, where, lack)


def shortage(rules: "Mapping[str, str]") -> str:
    """Return what the machine lacks, in words; '' if nothing or if that cannot be read."""
    if "min_available" in rules:
        wanted, available = int(rules["min_available"]), memory.available_bytes()
        if available is not None and available < wanted:
            from scopekeeper.quantities import show_bytes

            sizes = show_bytes(available), show_bytes(wanted)
            return f"{sizes[0]} is available, min_available is {sizes[1]}"
    if "max_pressure" in rules:
        most, share = int(rules["max_pressure"]), memory.waiting_percent()
        if share is not None and share > most:
            return f"processes waited for memory {share:.0f}% of the time, max_pressure is {most}"
    return ""


def _wait(rules: "Mapping[str, str]", lack: str, say: "Callable[[str], None]") -> str:
    """Wait until nothing is lacking; return what still is when the time is over."""
    from scopekeeper.quantities import show_duration

    most = int(rules.get("wait_most", f"{_MOST_USEC}us").removesuffix("us")) / 1e6
    say(f"waiting for memory, at most {show_duration(most)}: {lack}")
    deadline = time.monotonic() + most
    while lack and time.monotonic() < deadline:
        time.sleep(min(_PAUSE, most))
        lack = shortage(rules)
    return lack and f"{lack}, also after {show_duration(most)}"


def _refusal(request: "Request", where: "Place", lack: str) -> Exception:
    from scopekeeper.errors import ShortageError
    from scopekeeper.scope.names import lane_class
    from scopekeeper.short_names import short

    named = f"{short(request.name)} in the lane {short(lane_class(request.lane))}"
    most = _largest(where)
    hint = f"most is used by {most}; scopekeeper stop -s SESSION ends one" if most else ""
    text = f"the machine is short of memory for {named}: {lack}"
    return ShortageError(text, hint or "scopekeeper ls shows what runs")


def _largest(where: "Place") -> str:
    """Return the sessions that use most memory, in words; '' if that is not known.

    Of all users for root, else of this one.
    """
    from scopekeeper.errors import ScopekeeperError
    from scopekeeper.quantities import show_bytes
    from scopekeeper.scope.snapshot import Reader
    from scopekeeper.short_names import short

    used: dict[str, int] = {}
    try:
        for scope in Reader(where.mount, usage=True).snapshot(uid=where.uid or None).scopes:
            used[scope.session] = used.get(scope.session, 0) + (scope.memory_bytes or 0)
    except (OSError, LookupError, ScopekeeperError):
        return ""
    first = sorted(filter(used.get, used), key=lambda each: -used[each])[:_NAMED]
    return ", ".join(f"{short(session)} ({show_bytes(used[session])})" for session in first)
