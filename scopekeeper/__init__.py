"""Contains MCP cohorts and PTY runs in systemd scopes named after their session and lane.

For users of the Python API (docs/python.md): ``Cohort``, ``spawn`` and ``spawn_async`` start
members; ``list_scopes``, ``label``, ``stop`` and ``wait`` do what the commands do;
``scopekeeper.mcp`` has the client of the MCP SDK, ``scopekeeper.errors`` what is raised.

Each is loaded when it is first used, never by ``scopekeeper run``. Which folder may import which is
in CONTRIBUTING.md; tests/unit/test_layers.py holds it.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from scopekeeper import errors as errors
    from scopekeeper import mcp as mcp
    from scopekeeper.exec.run import Ended as Ended
    from scopekeeper.lifecycle.escaped import Escaped as Escaped
    from scopekeeper.lifecycle.stop_target import Remaining as Remaining
    from scopekeeper.lifecycle.stop_target import Result as Result
    from scopekeeper.lifecycle.stop_target import Target as Target
    from scopekeeper.python_api.aio import AsyncProcess as AsyncProcess
    from scopekeeper.python_api.birthplace import Birthplace as Birthplace
    from scopekeeper.python_api.cohort import Cohort as Cohort
    from scopekeeper.python_api.cohort import spawn as spawn
    from scopekeeper.python_api.cohort import spawn_async as spawn_async
    from scopekeeper.python_api.operations import MemberInfo as MemberInfo
    from scopekeeper.python_api.operations import ScopeInfo as ScopeInfo
    from scopekeeper.python_api.operations import Selection as Selection
    from scopekeeper.python_api.operations import label as label
    from scopekeeper.python_api.operations import list_scopes as list_scopes
    from scopekeeper.python_api.operations import stop as stop
    from scopekeeper.python_api.operations import wait as wait
    from scopekeeper.python_api.options import Options as Options
    from scopekeeper.python_api.process import Process as Process
    from scopekeeper.version import __version__ as __version__

__all__ = [
    "AsyncProcess", "Birthplace", "Cohort", "Ended", "Escaped", "MemberInfo", "Options", "Process",
    "Remaining", "Result", "ScopeInfo", "Selection", "Target", "__version__", "errors",
    "label", "list_scopes", "spawn", "spawn_async", "stop", "wait",
]  # fmt: skip


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if not TYPE_CHECKING:  # a type checker has to find names that do not exist

    def __getattr__(name: str) -> object:
        if name not in __all__ and name != "mcp":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from scopekeeper.python_api.public import find

        return find(name)
