"""Plain ``pytest`` runs what needs no machine of its own; ``-m`` selects more."""

import os
import signal
import zlib
from pathlib import Path

import pytest

from tests import machine, selecting, shares

HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--thorough", action="store_true", help="all rounds of the tests of races")
    parser.addoption("--read-all", action="store_true", help="also files without a test asked for")
    parser.addoption("--shard", type=shard, metavar="K/N", help="only the Kth of N parts of them")


def shard(text: str) -> tuple[int, int]:
    """Read which of how many."""
    which, of = (int(word) for word in text.split("/"))
    if not 1 <= which <= of:
        raise ValueError(text)
    return which, of


def pytest_configure(config: pytest.Config) -> None:
    machine.THOROUGH = config.getoption("thorough")
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        # Ignored if a shell without job control, or nohup, has started this; what is executed
        # inherits that. A handler leaves it to this process, and gives its children the default.
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    if not config.option.markexpr:
        elsewhere = ("systemd", "root", "mcp", "openclaw", "deb", "builds", "browser", "oomd")
        config.option.markexpr = " and ".join(f"not {name}" for name in elsewhere)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave files unread that hold none of the tests asked for."""
    is_test = collection_path.name.startswith("test_") and collection_path.suffix == ".py"
    if not is_test or not collection_path.is_relative_to(HERE) or config.option.read_all:
        return None
    below = collection_path.relative_to(HERE).as_posix()
    return None if selecting.may_hold(collection_path, below, config.option.markexpr) else True


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give a test the marks that say who runs it (``tests/shares.py``)."""
    if item.path.is_relative_to(HERE):
        for mark in shares.marks_of(item.path.relative_to(HERE).as_posix(), item.name):
            item.add_marker(mark)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only root can do, which the suites do as root, and what is another's share."""
    wanted = config.getoption("shard")

    def is_left_out(item: pytest.Item) -> bool:
        if os.geteuid() != 0 and item.get_closest_marker("root"):
            return True
        # by its name alone: it is the same share whatever else is left out, after a reboot too
        return wanted and zlib.crc32(item.nodeid.encode()) % wanted[1] != wanted[0] - 1

    left_out = [item for item in items if is_left_out(item)]
    if left_out:
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)
