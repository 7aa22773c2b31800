"""Returns to the client at once, and leaves a process that does the work.

A client waits for its hook, and some kill it after a second. So this imports builtin modules only,
prints nothing, and exits 0 whatever happens.
"""

import posix
import time

from scopekeeper.kernel.proc import Stat, read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from scopekeeper.hook.client_process import Ancestor

_FURTHEST = 16
_FIRST_FREE, _MOST = 3, 1 << 20
"""Descriptors from 3 on are closed; none is higher (fs.nr_open, by default)."""


def hook(words: list[str], then: "Callable[[list[str]], object]") -> "NoReturn":
    """Leave a process for the hook behind, and exit 0.

    words are CLIENT and EVENT. That process calls then with the words of each command that it runs,
    in a process of its own.
    """
    try:
        began = time.time()
        # before the fork: the hook's shell, and a client that ends now, are gone a moment later
        above = ancestors()
        _leave_group()
        if posix.fork() == 0:
            _work(words, above, began, then)
    finally:
        posix._exit(0)


def ancestors() -> "list[Ancestor]":
    """Return the processes above this one, the nearest first, as far as they are visible."""
    found = list[tuple[int, str, str]]()
    try:
        pid = posix.getppid()
        while pid > 1 and len(found) < _FURTHEST:
            stat = read(f"/proc/{pid}/stat")
            found.append((pid, stat, read(f"/proc/{pid}/cmdline")))
            pid = Stat(stat).parent
    except (OSError, ValueError, IndexError):
        pass  # hidden from us, or ended
    return found


def _leave_group() -> None:
    """Leave the process group, which the client may kill, unless this process leads it."""
    try:
        posix.setsid()
    except OSError:
        pass  # it leads its group; then only the process that is left behind leaves it


def _work(
    words: list[str],
    above: "list[Ancestor]",
    began: float,
    then: "Callable[[list[str]], object]",
) -> None:
    posix.setsid()
    event = _detach()
    from scopekeeper.hook.detached import run

    run(words, event, above, began, then)


def _detach() -> int:
    """Put /dev/null on the standard descriptors; return one for what was stdin, or -1.

    A client may wait until the hook's stdout is closed, or any other pipe that it has passed on.
    """
    import fcntl

    posix.chdir("/")
    try:
        event = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE)
        if event != _FIRST_FREE:
            event = posix.dup2(event, _FIRST_FREE, False)
    except OSError:
        event = -1  # it was closed
    posix.closerange(_FIRST_FREE + (event >= 0), _MOST)
    nothing = posix.open("/dev/null", posix.O_RDWR)
    for fd in range(_FIRST_FREE):
        posix.dup2(nothing, fd)
        posix.set_inheritable(fd, True)
    if nothing >= _FIRST_FREE:
        posix.close(nothing)
    return event
