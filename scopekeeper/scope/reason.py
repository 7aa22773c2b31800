"""Why a member ended: one of a closed list, and what it rests on. Pure."""

import enum
from dataclasses import dataclass


class Reason(enum.Enum):
    """The closed list; what is not known stays unknown, and is not guessed into a nicer one."""

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
    REBOOT = "reboot"
    UNKNOWN = "unknown"

    @classmethod
    def of(cls, text: str) -> "Reason":
        """Return the reason of that value; unknown where a newer version wrote another."""
        try:
            return cls(text)
        except ValueError:
            return cls.UNKNOWN


@dataclass(frozen=True, slots=True)
class Stopper:
    """Who asked for an end."""

    pid: int
    uid: int
    command: str
    """As /proc/PID/comm has it: the kernel cuts it to 15 bytes."""

    def __str__(self) -> str:
        return f"{self.command or 'a process'} (pid {self.pid}, uid {self.uid})"


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a member is ended, as its stopper says or as it was proved."""

    reason: Reason
    text: str = ""
    """The stopper's own words, or the evidence; may be empty."""
    stopper: Stopper | None = None

    @property
    def evidence(self) -> str:
        """Return one sentence without its full stop."""
        if self.reason is not Reason.STOPPED or self.stopper is None:
            return self.text
        asked = f"asked for by {self.stopper}"
        return f"{asked}: {self.text}" if self.text else asked
