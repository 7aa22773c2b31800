"""A plugin for the host's pytest: ``--client NAMES`` adds a machine that plays each of them.

    python -m pytest -p tests.e2e.clients.plugin -p tests.lab.plugin --client claude

What is missing is installed from its registry first. Where that cannot be reached, the machine is a
test that is skipped and says why; it is never one that passed.
"""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import packages, showing
from tests.e2e.plugin import NotThere
from tests.lab.host import LabError, home, locked

from .client import INSTALLED
from .known import CLIENTS

ALL = "all"


def wanted(text: str) -> Iterator[str]:
    """Read names, or ``all``."""
    for word in text.replace(",", " ").split():
        yield from CLIENTS if word == ALL else (word,)


def have(name: str) -> Path:
    """Have a client installed; return the folder that all of them are in."""
    if name not in CLIENTS:
        raise LabError(f"unknown client {name!r}; known: {', '.join(CLIENTS)}, {ALL}")
    root = home().root / "clients"
    with locked(root / "lock", threading.Event()):
        CLIENTS[name].install(root, note)
    return root


def note(message: str) -> None:
    """Report something at once, however pytest is called."""
    print(f"clients: {message}", file=sys.stderr, flush=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("clients", "the real MCP clients")
    group.addoption(
        "--client",
        default="",
        metavar="NAMES",
        help=f"clients to play, each in a machine of its own, or {ALL}: {', '.join(CLIENTS)}",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Ask the lab for the machines, before it reads what it was asked for."""
    if config.getoption("collectonly"):
        return
    showing.register(config)
    for name in wanted(config.getoption("client")):
        label = f"client-{name}"
        try:
            folder = have(name)
        except packages.UnreachableError as error:
            note(f"NOT RUN: {name}: {error}")
            reason = f"{name} cannot be installed: {str(error).splitlines()[0]}"
            config.pluginmanager.register(NotThere(f"lab[{label}]", reason), f"not there: {name}")
        except LabError as error:
            raise pytest.UsageError(str(error)) from None
        else:
            config.option.lab_specs.append(
                f"{label}@trixie:nspawn:user:{folder}:{INSTALLED}"
                f"=-m openclaw -k {name} tests/e2e/clients"
            )
