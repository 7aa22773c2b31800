"""Errors: one class for each remedy, each with a hint for the user."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Protocol

    class Stopped(Protocol):
        """What a ``scopekeeper.Result`` has; that is in a room above this one."""

        target: Any
        outcome: str
        terminated: int
        killed: int
        milliseconds: float
        remaining: tuple[Any, ...]
        problem: str
        escaped: tuple[Any, ...]
        ended_escaped: tuple[tuple[Any, str], ...]
        unread: int


FAILED = 125
"""Exit status when scopekeeper itself failed, as in env(1) and timeout(1)."""

NOTHING_MATCHED = 4
"""Exit status of an operator's command if nothing there is what was named."""

READ_ONLY_IN_CONTAINER = (
    "start the container with a writable /sys/fs/cgroup: podman run --security-opt "
    "unmask=/sys/fs/cgroup, docker run --privileged"
)
READ_ONLY = "remove ProtectControlGroups= and ReadOnlyPaths= from its service"
NO_SOCKETS = "add AF_UNIX to RestrictAddressFamilies= of its service"
NO_RUN = "remove ProtectHome=, InaccessiblePaths= and TemporaryFileSystem= from its service"
"""What a service has to change if it sees cgroups read-only, may open no socket of systemd, or does
not see the folder of those sockets."""

_LONGEST = 500
"""Characters of an error's text, which may quote a file or a record."""


class ScopekeeperError(Exception):
    """Base of every error that a user may see.

    status is the exit status of an operator's command; ``run`` always exits 125.
    """

    status = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class UsageError(ScopekeeperError):
    """An invalid argument; change the call."""

    status = 2


class InterruptedWorkError(KeyboardInterrupt):
    """Ctrl-C came when something was done already: its text says what, and what to do now.

    Like its base no Exception: it passes through everything that handles errors.
    """


class NotFoundError(ScopekeeperError):
    """There is no run, session, scope or member of that name."""

    status = NOTHING_MATCHED


class UnavailableError(ScopekeeperError):
    """This machine cannot contain a process; ``scopekeeper doctor`` shows why."""

    def __init__(
        self, message: str, hint: str = "`scopekeeper doctor` shows what is missing"
    ) -> None:
        super().__init__(message, hint)


class ForeignError(ScopekeeperError):
    """A scope with our name that is not ours, or whose record is unreadable: never touched."""


class RemainsError(ScopekeeperError):
    """Processes that cannot be killed, or may not be; also those that had left their scope.

    results has the proved outcome of each member, each a ``scopekeeper.Result``.
    """

    status = 5

    def __init__(self, message: str, hint: str = "", results: "Sequence[Stopped]" = ()) -> None:
        super().__init__(message, hint)
        self.results = tuple(results)


class ConflictError(ScopekeeperError):
    """The scope exists and contradicts the request."""


class ManagerError(ScopekeeperError):
    """systemd refused or failed; has systemd's own message."""


class ShortageError(ScopekeeperError):
    """The machine is short of memory for this launch, as its rules say; free some, or try later."""


class LimitError(ScopekeeperError):
    """A limit of the kernel or of this process is reached; raise it."""


class HistoryError(ScopekeeperError):
    """The history cannot be read or written; everything else works without it."""


class StateError(ScopekeeperError):
    """The state folder cannot be read or written."""

    def __init__(
        self, message: str, hint: str = "make room or mend its disk, or set SCOPEKEEPER_STATE"
    ) -> None:
        super().__init__(message, hint)


class RefusedError(ScopekeeperError):
    """A path that may not be owned: removing it would affect others."""


class ConfigError(ScopekeeperError):
    """A client's configuration that cannot be read or rewritten; it is unchanged."""


def words(error: Exception) -> str:
    """Return any exception as one line of text."""
    if isinstance(error, OSError):
        text = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    elif isinstance(error, ScopekeeperError):
        text = str(error)
    else:
        text = f"internal error: {type(error).__name__}: {error}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
