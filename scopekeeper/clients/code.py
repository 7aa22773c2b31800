"""The code that belongs to one client: modules in its folder here, found by their names."""

import importlib
import os
from types import ModuleType


def module(client: str, name: str) -> ModuleType | None:
    """Return a module in the folder of a client; None if that has none of this name."""
    folder = client.replace("-", "_").replace(".", "_")
    if not os.path.exists(f"{os.path.dirname(__file__)}/{folder}/{name}.py"):
        return None
    return importlib.import_module(f"{__package__}.{folder}.{name}")
