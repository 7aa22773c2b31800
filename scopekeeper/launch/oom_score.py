"""Has the kernel kill a member before its gateway when the machine runs out of memory.

The kernel kills the process with the highest score: its share of the memory, plus the adjustment in
oom_score_adj (proc_pid_oom_score_adj(5)), which children inherit. Anybody may raise that of a
process of their own; it is never lowered here.
"""

from scopekeeper.kernel.proc import read, write


def raise_to(score: int, pid: "int | str", warnings: list[str]) -> None:
    """Raise the adjustment of a process to at least score; a failure becomes a warning."""
    path = f"/proc/{pid}/oom_score_adj"
    try:
        if int(read(path)) < score:
            write(path, str(score))
    except (ProcessLookupError, FileNotFoundError):
        return  # it has ended
    except OSError as error:
        warnings.append(f"oom_score_adjust has no effect: {error.strerror}")
