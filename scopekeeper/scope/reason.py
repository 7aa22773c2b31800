"""Why a member ended: one of a closed list, with its evidence. Pure."""

import enum

from scopekeeper.data import dataclass, field


class Reason(enum.Enum):
    """The closed list of reasons; without proof it is UNKNOWN, never a guess."""

    EXITED = "exited"
    CONTINUED = "continued"
    """Its process goes on as another member, named by the evidence."""
    SIGNALLED = "signalled"
    OOM_KILLED = "oom-killed"
    STOPPED = "stopped by request"
    SUPERSEDED = "superseded"
    OWNER_GONE = "owner gone"
    TTL = "ttl"
    IDLE = "idle"
    NO_OUTPUT = "no output"
    LEADER_EXITED = "leader exited"
    ABANDONED = "abandoned"
    ESCAPED = "escaped"
    REBOOT = "reboot"
    UNKNOWN = "unknown"

    @classmethod
    def of(cls, text: str) -> "Reason":
        """Return the reason with this value; UNKNOWN for a newer version's."""
        try:
            return cls(text)
        except ValueError:
            return cls.UNKNOWN


@dataclass(frozen=True, slots=True)
class Stopper:
    """The process that requested a stop."""

    pid: int
    uid: int
    command: str
    """Its /proc/PID/comm, which the kernel cuts to 15 bytes."""
    user: str = field(default="", compare=False)
    """The name of its uid, for people; '' if it is unknown."""
    terminal: str = field(default="", compare=False)
    """``pts/3``; '' if it has none: a short-lived script is found by the terminal of its caller."""

    def __str__(self) -> str:
        user = f"user {self.user}" if self.user else f"uid {self.uid}"
        facts = (f"pid {self.pid}", user, self.terminal)
        return f"{self.command or 'a process'} ({', '.join(filter(None, facts))})"


def without_user(text: str) -> str:
    """Return a text in which each stopper is named without its user."""
    import re  # takes as long as the interpreter

    return re.sub(r"(\(pid \d+), user [^,()]+", r"\1", text)


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a member is ended, as its stopper states or as it was proved."""

    reason: Reason
    text: str = ""
    """The stopper's reason, or the evidence; can be empty."""
    stopper: Stopper | None = None

    @property
    def evidence(self) -> str:
        """Return one sentence without its full stop."""
        if self.reason is not Reason.STOPPED or self.stopper is None:
            return self.text
        asked = f"asked for by {self.stopper}"
        return f"{asked}: {self.text}" if self.text else asked
