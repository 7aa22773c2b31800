"""Runs one command for an event, contained and bounded, and waits until it has ended.

It must not be in the keeper's cgroup, nor have its seccomp filter: the keeper may open no internet
socket. So the manager starts it, as a transient service; without one it gets a cgroup of its own.
Neither is below ``scopekeeper.slice``: whose kills count there (see ``slice_kills``) are scopes.

Everything here blocks: call it in a thread.
"""

import contextlib
import logging
import os
import time
from dataclasses import dataclass

from scopekeeper.errors import ManagerError, ScopekeeperError, words
from scopekeeper.keeper import command_cgroup
from scopekeeper.keeper.command_cgroup import OUT_OF_MEMORY, PREFIX, TIMED_OUT
from scopekeeper.keeper.command_input import Given
from scopekeeper.keeper.command_streams import Streams
from scopekeeper.kernel.exit_status import signal_name
from scopekeeper.policy.command_rules import CommandRule
from scopekeeper.policy.programs import PATH, program
from scopekeeper.quantities import show_bytes, show_duration
from scopekeeper.scope import choose_placement, placement_options
from scopekeeper.scope.placement import Caller
from scopekeeper.systemd import calls
from scopekeeper.users import home_of, name_of

_log = logging.getLogger("scopekeeper")

_MOST_TASKS = 64
_STOP_SECONDS = 5
"""Time between SIGTERM and SIGKILL when its time is over."""
_SLACK_SECONDS = 30
"""How much later than that a manager may be, on a loaded machine."""
_MOST_LINES = 20
_PASSED = ("PATH", "SCOPEKEEPER_CONFIG", "SCOPEKEEPER_STATE")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended."""

    problem: str
    """One sentence without its full stop; '' if it succeeded."""
    output: str
    """The last of what it printed, both streams, at most 20 lines."""
    seconds: float
    where: str
    """Its unit, or the directory of its cgroup; '' if it was not started."""

    @property
    def last_line(self) -> str:
        """The last line that it printed and that is not empty."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        return lines[-1] if lines else ""


def run(rule: CommandRule, given: Given) -> Outcome:
    """Run the command to its end; raises nothing."""
    began = time.monotonic()
    where, printed = "", b""
    try:
        argv = [program(given.argv[0]), *given.argv[1:]]
        place = choose_placement.find(Caller(), placement_options.wanted())
        where = f"{PREFIX}{rule.name}-{os.urandom(4).hex()}"
        with Streams(given.stdin) as streams:
            try:
                if place.manager:
                    where = f"{where}.service"
                    problem = _by_manager(place.manager, where, rule, argv, given, streams)
                else:
                    where = f"{place.base}/{where}"
                    problem = _in_cgroup(where, rule, argv, given, streams)
            finally:
                printed = streams.last
    except Exception as error:  # noqa: BLE001  whatever it is, it concerns only this command
        problem = words(error)
    if problem == TIMED_OUT:
        problem = f"it did not end in {show_duration(rule.timeout / 1e6)}"
    elif problem == OUT_OF_MEMORY:
        problem = f"it needs more memory than {show_bytes(rule.memory_max)}"
    lines = printed.decode("utf-8", "backslashreplace").splitlines()[-_MOST_LINES:]
    return Outcome(problem, "\n".join(lines), time.monotonic() - began, where)


def forget_failed() -> None:
    """Have the manager forget commands that failed when no keeper waited; raises nothing."""
    try:
        kind = choose_placement.find(Caller(), placement_options.wanted()).manager
        listed = calls.listed_units(kind, f"{PREFIX}*.service") if kind else {}
        for unit, state in listed.items():
            if state == "failed":
                calls.reset_failed(kind, unit)
    except (OSError, LookupError, ScopekeeperError) as error:
        _log.debug("earlier commands: %s", words(error))


def _environment(given: Given) -> dict[str, str]:
    uid = os.getuid()
    known = {"PATH": PATH, "HOME": home_of(uid) or "/", "LANG": os.environ.get("LANG", "C.UTF-8")}
    if name := name_of(uid):
        known |= {"USER": name, "LOGNAME": name}
    known |= {key: os.environ[key] for key in _PASSED if os.environ.get(key)}
    return known | given.variables


def _in_cgroup(
    folder: str, rule: CommandRule, argv: list[str], given: Given, streams: Streams
) -> str:
    limits = {"memory_max": rule.memory_max, "tasks_max": _MOST_TASKS}
    seconds = rule.timeout / 1e6
    return command_cgroup.run(
        folder, argv, _environment(given), streams, seconds=seconds, limits=limits
    )


def _by_manager(
    kind: str, unit: str, rule: CommandRule, argv: list[str], given: Given, streams: Streams
) -> str:
    """Run it as a transient service; return what went wrong, '' for nothing.

    systemd closes the streams of a service when that is dead or failed (seen with 252 and 257): the
    end of the output is the end of the unit, whatever the command did with its streams.
    """
    variables = [f"{name}={value}" for name, value in _environment(given).items()]
    calls.start_transient(kind, unit, {
        "Description": ("s", f"scopekeeper: the command of {rule.title}"),
        "Type": ("s", "exec"),
        # $ and % of its arguments are its own
        "ExecStartEx": ("a(sasas)", [(argv[0], argv, ["no-env-expand"])]),
        "Environment": ("as", variables),
        "StandardInputFileDescriptor": ("h", streams.input),
        "StandardOutputFileDescriptor": ("h", streams.output),
        "StandardErrorFileDescriptor": ("h", streams.output),
        "RuntimeMaxUSec": ("t", rule.timeout),
        "TimeoutStopUSec": ("t", _STOP_SECONDS * 1_000_000),
        "MemoryMax": ("t", rule.memory_max),
        "MemorySwapMax": ("t", 0),
        "TasksMax": ("t", _MOST_TASKS),
        "OOMPolicy": ("s", "kill"),
        "CollectMode": ("s", "inactive"),
    })  # fmt: skip
    streams.handed_over()
    if not streams.read(rule.timeout / 1e6 + _STOP_SECONDS + _SLACK_SECONDS):
        return f"{unit} did not end when its time was over"
    return _result(kind, unit)


def _result(kind: str, unit: str) -> str:
    """Return what went wrong with a service that is over, and have it forgotten; '' for nothing."""
    result, code, status = calls.service_end(kind, unit)
    if result == "success":
        return ""  # systemd has forgotten it
    with contextlib.suppress(ManagerError):  # somebody else was faster
        calls.reset_failed(kind, unit)
    if result == "timeout":
        return TIMED_OUT
    if result == "oom-kill":
        return OUT_OF_MEMORY
    if result in ("signal", "core-dump"):
        return f"killed by {signal_name(status)}"
    return f"exit status {status}" if code else f"systemd could not start it ({result})"
