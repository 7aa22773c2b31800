"""A plugin for the host's pytest: ``--openclaw VERSIONS`` adds a machine that proves those.

    python -m pytest -p tests.e2e.plugin -p tests.lab.plugin --openclaw 2026.9.6

What is missing is installed from npm's registry first. Where that cannot be reached the machine is
a test that is skipped and says why; it is never one that passed.
"""

import sys
import threading
from typing import NoReturn

import pytest

from tests.lab.host import LabError, home, locked

from . import packages, showing
from .clients.claude import Claude
from .clients.client import INSTALLED

GUEST = "/opt/openclaw"
LIMIT_S = 1500


class NotThereItem(pytest.Item):
    """The machine that could not be had."""

    reason: str

    def runtest(self) -> NoReturn:
        pytest.skip(self.reason)

    def reportinfo(self) -> tuple[str, None, str]:
        return str(self.path), None, self.name


class NotThere:
    """Puts what is not run into the report."""

    def __init__(self, name: str, reason: str) -> None:
        self._name, self._reason = name, reason

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, session: pytest.Session, items: list[pytest.Item]
    ) -> None:
        item: NotThereItem = NotThereItem.from_parent(session, name=self._name, nodeid=self._name)
        item.reason = self._reason
        items.append(item)


def note(message: str) -> None:
    """Say something at once, however pytest is called."""
    print(f"openclaw: {message}", file=sys.stderr, flush=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("openclaw", "the real OpenClaw")
    group.addoption(
        "--openclaw",
        default="",
        metavar="VERSIONS",
        help="versions of npm's to run in a machine of their own; "
        f"both is {' and '.join(packages.VERSIONS)}",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Ask the lab for the machine, before it reads what it was asked for."""
    if config.getoption("collectonly"):
        return
    showing.register(config)
    for version in packages.wanted(config.getoption("openclaw")):
        label = f"openclaw-{version}"
        try:
            folder = packages.have([version], note)
        except packages.UnreachableError as error:
            note(f"NOT RUN: OpenClaw {version}: {error}")
            reason = f"OpenClaw {version} cannot be had: {str(error).splitlines()[0]}"
            config.pluginmanager.register(NotThere(f"lab[{label}]", reason))
        except LabError as error:
            raise pytest.UsageError(str(error)) from None
        else:
            config.option.lab_specs.append(
                f"{label}@trixie:nspawn:user:{folder}:{GUEST}{_claude_code()}"
                f"=-m openclaw -k {packages.is_of(version)} tests/e2e"
            )


def _claude_code() -> str:
    """Have Claude Code, which can be a model of OpenClaw; return both folders of a machine's bind.

    '' where it cannot be had: its tests are skipped then.
    """
    root = home().root / "clients"
    try:
        with locked(root / "lock", threading.Event()):
            Claude().install(root, note)
    except packages.UnreachableError as error:
        note(f"NOT RUN: Claude Code as a model of OpenClaw: {error}")
        return ""
    return f":{root}:{INSTALLED}"
