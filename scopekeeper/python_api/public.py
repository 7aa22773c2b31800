"""Where what ``scopekeeper`` offers is defined.

Apart from ``scopekeeper/__init__.py``, since every ``run`` loads that.
"""

import importlib

_PLACES = {
    "python_api.aio": "AsyncProcess",
    "python_api.birthplace": "Birthplace",
    "python_api.cohort": "Cohort spawn spawn_async",
    "python_api.operations": "MemberInfo ScopeInfo Selection label list_scopes stop wait",
    "python_api.options": "Options",
    "python_api.process": "Process",
    "exec.run": "Ended",
    "lifecycle.escaped": "Escaped",
    "lifecycle.stop_target": "Remaining Result Target",
    "version": "__version__",
}
PUBLIC = {name: place for place, names in _PLACES.items() for name in names.split()}
"""Public names, and the module of each."""


def find(name: str) -> object:
    """Return what the package has by a public name, or its module; raises AttributeError."""
    if name in PUBLIC:
        return getattr(importlib.import_module(f"scopekeeper.{PUBLIC[name]}"), name)
    try:
        return importlib.import_module(f"scopekeeper.{name}")
    except ImportError as error:
        raise AttributeError(f"scopekeeper.{name} needs scopekeeper[mcp]: {error}") from None
