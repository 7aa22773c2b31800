"""What a check has found."""

import enum
from dataclasses import dataclass


class Status(enum.Enum):
    """How much a finding matters."""

    OK = "ok"
    NOTE = "note"
    LIMIT = "limit"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check."""

    check: str
    status: Status
    detail: str
    fix: str = ""
    """The command, or the sentence, that mends it."""
