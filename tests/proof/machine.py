"""Machines of the lab that do a proof, side by side.

Each has its own systemd, its own scopes and its own canaries: a reconcile sees every scope of its
user, so two trials of one user would end each other's members.
"""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.lab import session
from tests.lab.cli import end_on_signals, note
from tests.lab.machine import Watch
from tests.lab.payload import Job, Work
from tests.lab.spec import USERS


def boot(
    suite: str, *, as_root: bool, argvs: Sequence[Sequence[str]], seconds: int, result: str
) -> tuple[int, list[Path]]:
    """Run each command in a machine of its own; return the worst status, and their results.

    result is the name of the file that each writes into its folder of results.
    """
    end_on_signals()
    home = session.prepare(note)
    stop = threading.Event()

    def run(argv: Sequence[str]) -> tuple[int, Path]:
        job = Job("run", USERS["root" if as_root else "user"], tuple(argv))
        work = Work((job,), 600 + seconds, ())
        request = session.Request(suite, "nspawn", work, Path.cwd())
        outcome = session.execute(request, home, Watch(note, show, lambda event: None), stop)
        status = next((each for each in outcome.statuses.values() if each), 0)
        if outcome.reason is not None:
            note(f"no verdict: {outcome.reason}")
            status = status or 70
        return status, outcome.folder / "out" / "run" / result

    def show(text: str) -> None:
        print(text, end="", flush=True)

    with ThreadPoolExecutor(len(argvs)) as machines:
        running = [machines.submit(run, argv) for argv in argvs]
        try:
            done = [each.result() for each in running]
        except BaseException:
            stop.set()
            raise
    return max(status for status, _ in done), [path for _, path in done]
