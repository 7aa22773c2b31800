"""The result of a check."""

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
    """One result of one check."""

    check: str
    status: Status
    detail: str
    fix: str = ""
    """The command or setting that fixes it."""
