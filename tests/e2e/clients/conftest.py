"""The arrangement: all ends of a client without scopekeeper, then with it, and a table of both."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import showing
from tests.machine import PROGRAM, ROOT, eventually, scope_directories

from .client import INSTALLED, Client
from .counting import Table
from .desk import Desk
from .ends import ENDS
from .known import CLIENTS
from .model import Model

WAYS = {"bare": "without", "wrapped": "with"}
"""How a client is played, and the word for it in the table."""
TABLES = pytest.StashKey[dict[str, Table]]()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Play each client with the ends that it has; without scopekeeper before with it.

    A test of hooks names its way and its client itself.
    """
    if any(mark.args[0] == "way" for mark in metafunc.definition.iter_markers("parametrize")):
        return
    if "way" in metafunc.fixturenames:
        metafunc.parametrize("way", WAYS, indirect=True, scope="session")
    if "end" in metafunc.fixturenames:
        cases = [
            (name, end)
            for name, client in CLIENTS.items()
            for end in ENDS
            if end not in client.not_played
        ]
        metafunc.parametrize(("client", "end"), cases, indirect=["client"], scope="session")
    elif "client" in metafunc.fixturenames:
        test = metafunc.function.__name__
        names = [name for name, client in CLIENTS.items() if test not in client.not_played]
        metafunc.parametrize("client", names, indirect=True, scope="session")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Play all without scopekeeper first; pytest alternates, to set up other things less often."""
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    """Return where an item belongs: any other, then without scopekeeper, then with it."""
    case = getattr(item, "callspec", None)
    way = case.params.get("way") if case else None
    return list(WAYS).index(way) if way in WAYS else -1


@pytest.fixture(scope="session")
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """Play without scopekeeper first; then have its keeper started by systemd, as README says.

    Any other way than ``wrapped`` has no keeper.
    """
    if ROOT:
        pytest.skip("a client is a user's")
    if request.param != "wrapped":
        yield request.param
        return
    done = subprocess.run([PROGRAM, "install"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    yield request.param
    subprocess.run([PROGRAM, "uninstall", "--force"], capture_output=True)
    eventually(lambda: not scope_directories())


@pytest.fixture(scope="session")
def client(request: pytest.FixtureRequest) -> Client:
    """Return a client that is installed."""
    found = CLIENTS[request.param]
    if not Path(found.argv()[-1]).exists():
        pytest.skip(f"no {found.title} in {INSTALLED}: make test-clients has it there")
    return found


@pytest.fixture
def model() -> Iterator[Model]:
    """Serve a model on loopback."""
    made = Model()
    yield made
    made.close()


@pytest.fixture
def desk(client: Client, way: str, model: Model) -> Iterator[Desk]:
    """Have a place to play at."""
    made = Desk(client, model, contained=way == "wrapped")
    yield made
    made.remove()


@pytest.fixture
def table(request: pytest.FixtureRequest, client: Client) -> Table:
    """Return the table of a client, which is printed at the end."""
    tables = request.config.stash.setdefault(TABLES, {})
    ends = tuple(end.label for end in ENDS.values())
    return tables.setdefault(client.name, Table(client.title, ends, tuple(WAYS.values())))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Hand out what was counted: with the last report, and after each play as a file."""
    tables = item.config.stash.get(TABLES, {})
    if call.when != "teardown" or not tables:
        return
    lines = [line for each in tables.values() for line in [*each.lines(), ""]]
    if item.session.items[-1] is item:
        item.user_properties.append((showing.CLIENTS, lines))
    if folder := os.environ.get("LAB_OUT"):
        Path(folder, "clients.txt").write_text("\n".join(lines))
