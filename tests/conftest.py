"""Plain ``pytest`` runs what needs no machine of its own; ``-m`` asks for more."""

import os
import signal

import pytest

from tests import machine


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--thorough", action="store_true", help="all rounds of the tests of races")


def pytest_configure(config: pytest.Config) -> None:
    machine.THOROUGH = config.getoption("thorough")
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        # Ignored if a shell without job control, or nohup, has started this; what is executed
        # inherits that. A handler leaves it to this process, and gives its children the default.
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    if not config.option.markexpr:
        elsewhere = ("systemd", "root", "mcp", "openclaw", "deb", "builds")
        config.option.markexpr = " and ".join(f"not {name}" for name in elsewhere)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only root can do; the suites run as root too, and do it there."""
    if os.geteuid() == 0:
        return
    left_out = [item for item in items if item.get_closest_marker("root")]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)
