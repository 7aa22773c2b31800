"""What can go wrong, one class a remedy, each with a hint: what to do about it."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

FAILED = 125
"""Exit status where scopekeeper itself failed, as env(1) and timeout(1) have it."""

_LONGEST = 500
"""Characters of an error in words: it may quote what others wrote."""


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
    """An argument that cannot be meant; change the call."""

    status = 2


class UnavailableError(ScopekeeperError):
    """There is nothing here that could contain a process; ``scopekeeper doctor`` says why."""

    def __init__(
        self, message: str, hint: str = "`scopekeeper doctor` shows what is missing"
    ) -> None:
        super().__init__(message, hint)


class ForeignError(ScopekeeperError):
    """A scope of our name that is not ours, or whose record cannot be read: never touched."""


class RemainsError(ScopekeeperError):
    """Processes that were to be stopped and cannot be killed, or may not be.

    results has what was proved of each member, as ``scopekeeper.lifecycle.stop.stop`` returns it.
    """

    status = 5

    def __init__(self, message: str, hint: str = "", results: "Sequence[Any]" = ()) -> None:
        super().__init__(message, hint)
        self.results = tuple(results)


class ConflictError(ScopekeeperError):
    """The scope exists and what was asked for contradicts it."""


class ManagerError(ScopekeeperError):
    """systemd refused or failed; carries its own words."""


class LimitError(ScopekeeperError):
    """A limit of the kernel, or of this process, leaves no room to watch more; raise it."""


class HistoryError(ScopekeeperError):
    """The history cannot be read or written; everything else goes on without it."""


class StateError(ScopekeeperError):
    """What has to survive a reboot cannot be written or read."""

    def __init__(
        self, message: str, hint: str = "make room or mend its disk, or set SCOPEKEEPER_STATE"
    ) -> None:
        super().__init__(message, hint)


class RefusedError(ScopekeeperError):
    """A path that may not be owned: it would not be ours alone to remove."""


class ConfigError(ScopekeeperError):
    """A client's configuration that cannot be read or rewritten; it is as it was."""


def words(error: Exception) -> str:
    """Return in one line what went wrong, whatever it is."""
    if isinstance(error, OSError):
        text = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    elif isinstance(error, ScopekeeperError):
        text = str(error)
    else:
        text = f"internal error: {type(error).__name__}: {error}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
