"""A machine of the lab that does a proof."""

import threading
from collections.abc import Sequence
from pathlib import Path

from tests.lab import session
from tests.lab.cli import end_on_signals, note
from tests.lab.machine import Watch
from tests.lab.payload import Job, Work
from tests.lab.spec import USERS


def boot(
    suite: str, *, as_root: bool, argv: Sequence[str], seconds: int, result: str
) -> tuple[int, Path]:
    """Run a command in a new machine; return its status and where its result is."""
    end_on_signals()
    home = session.prepare(note)
    job = Job("run", USERS["root" if as_root else "user"], tuple(argv))
    work = Work((job,), 600 + seconds, ())
    request = session.Request(suite, "nspawn", work, Path.cwd())

    def show(text: str) -> None:
        print(text, end="", flush=True)

    watch = Watch(note, show, lambda event: None)
    outcome = session.execute(request, home, watch, threading.Event())
    status = next((each for each in outcome.statuses.values() if each), 0)
    if outcome.reason is not None:
        note(f"no verdict: {outcome.reason}")
        status = status or 70
    return status, outcome.folder / "out" / "run" / result
