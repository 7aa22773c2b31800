"""A plugin of a client that brings servers of its own, as the client's module ``plugins`` finds it.

Such a module has ``plugins(environment, read)``, which yields each ``Plugin``. read returns the
JSON object in the file at a path, {} if there is none.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

ReadObject = Callable[[str], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Plugin:
    """A file with servers of a plugin."""

    name: str
    path: str
    is_flat: bool = False
    """Whether the keys of the file are the servers themselves."""
