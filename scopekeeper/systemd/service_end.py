"""How a service ended, in the words of its evidence: from its properties, or in ExecStopPost=."""

import os
import signal
from collections.abc import Mapping

_KILLED = {"killed", "dumped", "2", "3"}
"""CLD_KILLED and CLD_DUMPED, as systemd.exec(5) names them and as properties have them."""


def how_killed(result: str, code: str, status: str) -> str:
    """Return ``signal 9`` or ``out of memory`` for a service that was killed, '' for any other.

    These are Result=, ExecMainCode= and ExecMainStatus=, or $SERVICE_RESULT, $EXIT_CODE and
    $EXIT_STATUS. A service that dies by a signal of its own stop was not killed: its result is
    ``success``, or ``timeout``.
    """
    if result == "oom-kill":
        return "out of memory"
    if result not in ("signal", "core-dump") or code not in _KILLED:
        return ""
    number = int(status) if status.isdecimal() else _number(status)
    return f"signal {number}" if number else ""


def stated_to(environment: Mapping[str, str], unit: str) -> str:
    """Return the evidence that a unit has ended; environment is that of its ExecStopPost=.

    '' if it is not: EXIT_CODE= is there only after the end of the main process.
    """
    result, code = environment.get("SERVICE_RESULT", ""), environment.get("EXIT_CODE", "")
    if not (result and code):
        return ""
    killed = how_killed(result, code, environment.get("EXIT_STATUS", ""))
    return was_killed(unit, killed) if killed else f"{unit} has stopped"


def was_killed(unit: str, how: str) -> str:
    """Return the evidence for a service that was killed."""
    return f"{unit} was killed ({how})"


def _number(name: str) -> int:
    try:
        return signal.Signals[f"SIG{name}"].value
    except KeyError:
        return 0


def is_called_by(unit: str, own_unit: str, parent_cgroup: str) -> bool:
    """Return whether a manager of systemd has started this process for a unit.

    own_unit is the unit that the process is in; parent_cgroup that of its parent.
    """
    return own_unit == unit and os.path.basename(parent_cgroup) == "init.scope"
