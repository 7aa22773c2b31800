"""A stop waits for systemd as long as that removes one scope after the other."""

import os
from pathlib import Path

import pytest

from scopekeeper.lifecycle import remove
from scopekeeper.lifecycle.remove import Emptied

SLICE = "/system.slice/scopekeeper.slice"


class Clock:
    """Time that passes when something waits; a folder goes every so many seconds of it."""

    def __init__(self, folders: list[Path], every: float) -> None:
        self.now, self._next = 0.0, every
        self._folders, self._every = folders, every

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self._folders and self.now >= self._next:
            self._folders.pop(0).rmdir()
            self._next += self._every


@pytest.fixture
def emptied(tmp_path: Path) -> list[Emptied]:
    found = []
    for number in range(6):
        name = f"scopekeeper-{number}-main.scope"
        path = tmp_path / name
        path.mkdir()
        fd = os.open(path, os.O_RDONLY)
        found.append(Emptied(str(path), f"{SLICE}/{name}", str(path), fd))
    yield found
    for each in found:
        os.close(each.fd)


def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of what systemd is asked to drop."""
    found: list[str] = []
    monkeypatch.setattr(remove, "_settle", lambda each, _: found.append(each.directory))
    return found


def test_systemd_is_asked_about_none_as_long_as_it_goes_on(emptied, monkeypatch) -> None:
    settled = asked(monkeypatch)
    folders = [Path(each.directory) for each in emptied]
    monkeypatch.setattr(remove, "time", Clock(folders, 1.5))
    remove.remove(emptied)
    assert settled == []
    assert not any(os.path.exists(each.directory) for each in emptied)


def test_those_that_it_keeps_are_waited_for_once(emptied, monkeypatch) -> None:
    settled = asked(monkeypatch)
    clock = Clock([Path(emptied[0].directory)], 0.5)
    monkeypatch.setattr(remove, "time", clock)
    remove.remove(emptied)
    assert settled == [each.directory for each in emptied[1:]]
    assert clock.now < 3.0
