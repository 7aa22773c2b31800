"""Detects interactive shells, which ignore SIGTERM and end by SIGHUP."""

import contextlib
import signal

from scopekeeper.kernel import proc

_SHELL_IGNORES = sum(1 << each - 1 for each in (signal.SIGTERM, signal.SIGTSTP, signal.SIGTTOU))
"""As bash 5.2 and dash 0.5.12 do at a terminal: the last two for their job control."""
_HANGUP = 1 << signal.SIGHUP - 1


def is_interactive_shell(pid: int) -> bool:
    """Return whether a process ignores the signals that an interactive shell does, but no SIGHUP.

    False also if it has ended or cannot be read. The mask is that of ``SigIgn`` in
    proc_pid_status(5).
    """
    with contextlib.suppress(OSError):
        text = proc.read(f"/proc/{pid}/status")
        ignored = int(text.partition("\nSigIgn:")[2].partition("\n")[0] or "0", 16)
        return ignored & (_SHELL_IGNORES | _HANGUP) == _SHELL_IGNORES
    return False
