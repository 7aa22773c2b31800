"""What ``why`` shows below an end: the last that a run, or a server, has written."""

from scopekeeper.cli.stderr_lines import stderr_of
from scopekeeper.history.end import End

_LINES = 10


def last_output(end: End, *, ask_journal: bool) -> list[str]:
    """Return the last lines of a run's output or of a member's stderr, if they are still kept."""
    if end.kind != "pty" or not end.run:
        return stderr_of(end.leaf, ask_journal=ask_journal)
    from scopekeeper.exec.run import load

    run = load(end.run)
    output = run.ended.output if run is not None and run.ended is not None else ""
    return ["last output:", *output.splitlines()[-_LINES:]] if output.strip() else []
