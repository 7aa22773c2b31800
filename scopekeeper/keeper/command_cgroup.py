"""Runs the command of an event without systemd: in a cgroup of its own beside the scopes.

Everything that the command leaves is killed with it, as systemd does with a service.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from scopekeeper.keeper import enter_cgroup
from scopekeeper.keeper.command_streams import Streams
from scopekeeper.kernel import cgroupfs
from scopekeeper.kernel.exit_status import signal_name
from scopekeeper.launch.limits import limit_folder

PREFIX = "scopekeeper-event-"
"""How the cgroup of a command is named, and its unit where there is systemd."""
TIMED_OUT, OUT_OF_MEMORY = "timed out", "out of memory"
_ROUNDS, _PAUSE = 100, 0.02
"""How often to try to remove the cgroup: rmdir fails until the kernel has reaped everything."""


def run(
    folder: str,
    argv: Sequence[str],
    environment: Mapping[str, str],
    streams: Streams,
    *,
    seconds: float,
    limits: dict[str, int],
) -> str:
    """Run a command to its end in a new cgroup; return what went wrong, '' for nothing.

    limits are options as in ``launch.limits``; one whose controller is not delegated has no effect.
    Raises OSError.
    """
    os.mkdir(folder, 0o755)
    try:
        limit_folder(os.path.dirname(folder), folder, limits, [])
        for name, value in (("memory.swap.max", "0"), ("memory.oom.group", "1")):
            cgroupfs.write(folder, name, value)  # where there is such a file
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", enter_cgroup.__file__, folder, *argv],
            stdin=streams.input, stdout=streams.output, stderr=streams.output,
            env=environment, cwd="/", start_new_session=True,
        )  # fmt: skip
        streams.handed_over()
        pidfd = os.pidfd_open(process.pid)
        try:
            is_over = streams.read(seconds, pidfd)
        finally:
            os.close(pidfd)
            was_killed = cgroupfs.keyed(cgroupfs.read(folder, "memory.events"), "oom_kill")
            cgroupfs.kill(folder)
            with contextlib.suppress(ProcessLookupError):
                process.kill()  # it may not have entered yet; it is not reaped, so it is this one
            status = process.wait()
    finally:
        _remove(folder)
    if not is_over:
        return TIMED_OUT
    if was_killed:
        return OUT_OF_MEMORY
    if status < 0:
        return f"killed by {signal_name(-status)}"
    return f"exit status {status}" if status else ""


def sweep(base: str) -> None:
    """Kill and remove what keepers left that were killed; base is the folder of the scopes."""
    with contextlib.suppress(OSError):
        for name in cgroupfs.children(base):
            if name.startswith(PREFIX):
                cgroupfs.kill(f"{base}/{name}")
                _remove(f"{base}/{name}")


def _remove(folder: str) -> None:
    for _ in range(_ROUNDS):
        if cgroupfs.remove(folder):
            return
        time.sleep(_PAUSE)
