"""Contains MCP cohorts and PTY runs in systemd scopes named after their session and lane.

For users of the Python API (docs/python.md): ``Cohort``, ``spawn`` and ``spawn_async`` start
members; ``list_scopes``, ``stop`` and ``wait`` do what the commands do; ``scopekeeper.mcp`` has the
client of the MCP SDK, ``scopekeeper.errors`` what is raised.

Each is loaded when it is first used, never by ``scopekeeper run``. Which folder may import which is
in CONTRIBUTING.md; tests/unit/test_layers.py holds it.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from scopekeeper.python_api.aio import AsyncProcess as AsyncProcess
    from scopekeeper.python_api.birthplace import Birthplace as Birthplace
    from scopekeeper.python_api.cohort import Cohort as Cohort
    from scopekeeper.python_api.cohort import spawn as spawn
    from scopekeeper.python_api.cohort import spawn_async as spawn_async
    from scopekeeper.python_api.operations import MemberInfo as MemberInfo
    from scopekeeper.python_api.operations import ScopeInfo as ScopeInfo
    from scopekeeper.python_api.operations import list_scopes as list_scopes
    from scopekeeper.python_api.operations import stop as stop
    from scopekeeper.python_api.operations import wait as wait
    from scopekeeper.python_api.process import Process as Process
    from scopekeeper.version import __version__ as __version__

_PUBLIC = {
    "AsyncProcess": "python_api.aio",
    "Birthplace": "python_api.birthplace",
    "Cohort": "python_api.cohort",
    "MemberInfo": "python_api.operations",
    "Process": "python_api.process",
    "ScopeInfo": "python_api.operations",
    "list_scopes": "python_api.operations",
    "spawn": "python_api.cohort",
    "spawn_async": "python_api.cohort",
    "stop": "python_api.operations",
    "wait": "python_api.operations",
    "__version__": "version",
}
"""Public names, and the module of each."""


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value: object = getattr(importlib.import_module(f"scopekeeper.{_PUBLIC[name]}"), name)
    return value
