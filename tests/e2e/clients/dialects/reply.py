"""What the model answers, before it is put into the words of an API."""

import time
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Reply:
    """A text, or the call of a tool."""

    text: str = ""
    name: str = ""
    arguments: str = ""
    """JSON"""

    @property
    def is_call(self) -> bool:
        """Whether a tool is called."""
        return bool(self.name)


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a streamed answer."""

    data: dict[str, Any] | str
    """a text is sent as it is"""
    name: str = ""


def unique(prefix: str) -> str:
    """Return an identifier that no other answer has."""
    return f"{prefix}_{time.monotonic_ns()}"
