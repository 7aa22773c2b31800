"""A plugin for the host's pytest: ``--prometheus`` adds a machine in which one scrapes our metrics.

    python -m pytest -p tests.prometheus.plugin -p tests.lab.plugin --prometheus

What is missing comes from Debian's archive first. Where that cannot be reached, the machine is a
test that is skipped and says why; it is never one that passed.
"""

import sys

import pytest

from tests.e2e.packages import UnreachableError
from tests.e2e.plugin import NotThere
from tests.lab.host import LabError

from . import packages

GUEST = "/opt/prometheus"
TESTS = "tests/systemd/test_prometheus.py"


def note(message: str) -> None:
    """Report something at once, however pytest is called."""
    print(f"prometheus: {message}", file=sys.stderr, flush=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("prometheus", "a real Prometheus")
    group.addoption("--prometheus", action="store_true", help="have one scrape our metrics")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Ask the lab for the machine, before it reads what it was asked for."""
    if config.getoption("collectonly") or not config.getoption("prometheus"):
        return
    try:
        folder = packages.have(note)
    except UnreachableError as error:
        note(f"NOT RUN: {error}")
        config.pluginmanager.register(NotThere("lab[prometheus]", str(error)), "no prometheus")
    except LabError as error:
        raise pytest.UsageError(str(error)) from None
    else:
        config.option.lab_specs.append(
            f"prometheus@trixie:nspawn:root+user:{folder}:{GUEST}=-m prometheus {TESTS}"
        )
