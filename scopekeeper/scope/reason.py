"""Why a member ended: one of a closed list, with its evidence. Pure."""

import enum
from dataclasses import dataclass


class Reason(enum.Enum):
    """The closed list of reasons; without proof it is UNKNOWN, never a guess."""

    EXITED = "exited"
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

    def __str__(self) -> str:
        return f"{self.command or 'a process'} (pid {self.pid}, uid {self.uid})"


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
