"""A real launch and a real stop: proves what the other checks only infer."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from scopekeeper.doctor.finding import Finding, Status
from scopekeeper.doctor.remedies import detail, remedy, remedy_by_words
from scopekeeper.errors import ScopekeeperError
from scopekeeper.history.end import TRIAL
from scopekeeper.kernel import cgroupfs, proc
from scopekeeper.launch.leave_scope import step_aside
from scopekeeper.lifecycle import stop, stop_target
from scopekeeper.scope import records
from scopekeeper.scope.reason import Cause, Reason

_TRIAL = """\
import sys
sys.path.insert(0, sys.argv[1])
from scopekeeper.launch.run import run
run({"session": sys.argv[3], "lane": sys.argv[4], "run": sys.argv[2], "lifetime": "detached",
     "kind": "exec", "ungated": "1", "scratch": "0"}, ["sleep", "60"])
"""


def trial(mount: str) -> Finding:
    """Start a command in its own scope, read its record back, and stop it.

    The history does not record it. Ctrl-C takes effect after it, so that it leaves no scope without
    a process; a second one at once.
    """
    with _interrupt_later():
        return _launch_and_stop(mount)


def _launch_and_stop(mount: str) -> Finding:
    folder = str(Path(__file__).resolve().parents[2])
    argv = [sys.executable, "-IS", "-c", _TRIAL, folder, os.urandom(4).hex(), *TRIAL]
    began = time.monotonic()
    # a session of its own: Ctrl-C at the terminal does not signal it
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        path = _leaf_of(process)
        if not path:
            process.kill()
            error = process.communicate()[1].decode("utf-8", "replace").strip()
            message, _, hint = error.partition("; ")
            fix = remedy_by_words(message) or hint or "scopekeeper run -s try -- true"
            return Finding("trial", Status.FAIL, f"a launch failed: {message or 'it hung'}", fix)
        if cgroupfs.attribute(mount + path, records.ATTRIBUTE) is None:
            return Finding("trial", Status.FAIL, f"no record can be read back from {path}")
        scope = path.rpartition("/")[0]
        # no grace, so that the stop has to use cgroup.kill
        target = stop_target.Target(mount + scope, scope, grace=0.0)
        cause = Cause(Reason.STOPPED, "the trial of scopekeeper doctor")
        warnings: list[str] = []
        result = stop.stop([target], causes=[cause], warnings=warnings, step_out=step_aside)[0]
        if result.outcome not in ("terminated", "killed") or process.wait(5) not in (
            -signal.SIGTERM,
            -signal.SIGKILL,
        ):
            return Finding(
                "trial", Status.FAIL, f"a stop failed: {result.problem or result.outcome}"
            )
    except (ScopekeeperError, OSError, subprocess.SubprocessError) as error:
        return Finding(
            "trial", Status.FAIL, f"a launch or its stop failed: {detail(error)}", remedy(error)
        )
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()
    elapsed = (time.monotonic() - began) * 1000
    if warnings:
        return Finding("trial", Status.LIMIT, "; ".join(warnings))
    return Finding(
        "trial", Status.OK, f"a scope was created, recorded and stopped in {elapsed:.0f} ms"
    )


@contextlib.contextmanager
def _interrupt_later() -> Iterator[None]:
    """Raise the first KeyboardInterrupt at the end of the block, a second one at once."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    came: list[int] = []

    def note(number: int, _: object) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if came:
        raise KeyboardInterrupt


def _leaf_of(process: subprocess.Popen[bytes]) -> str:
    """Wait until the trial runs its command, and return its cgroup path; '' if it failed."""
    deadline = time.monotonic() + 35  # a launch waits up to 30 s for systemd
    while process.poll() is None and time.monotonic() < deadline:
        if proc.comm(process.pid) == "sleep":
            return cgroupfs.path_of(process.pid)
        time.sleep(0.002)
    return ""
