"""Contains MCP cohorts and PTY runs in systemd scopes named after their session and lane."""

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from scopekeeper.gateway.aio import AsyncProcess as AsyncProcess
    from scopekeeper.gateway.cohort import Cohort as Cohort
    from scopekeeper.gateway.cohort import spawn as spawn
    from scopekeeper.gateway.cohort import spawn_async as spawn_async
    from scopekeeper.gateway.process import Process as Process

_OF_GATEWAYS = {
    "AsyncProcess": "aio",
    "Cohort": "cohort",
    "Process": "process",
    "spawn": "cohort",
    "spawn_async": "cohort",
}
"""What gateways in Python use, and where it is: loaded when it is asked for, never by ``run``."""


def __getattr__(name: str) -> object:
    if name not in _OF_GATEWAYS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    module = importlib.import_module(f"scopekeeper.gateway.{_OF_GATEWAYS[name]}")
    value: object = getattr(module, name)
    return value
