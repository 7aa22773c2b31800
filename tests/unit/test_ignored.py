"""The warning about a client's variable that does not count."""

import os
import threading
from pathlib import Path

import pytest

from scopekeeper.clients import ignored
from scopekeeper.scope.owner import LaunchOwner

IGNORED = "CLAUDE_CODE_SESSION_ID inherited"
MANY = 16


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "runtime/ignored-variables"
    monkeypatch.setattr(ignored, "runtime_path", lambda _: str(path))
    return path


def owner(start: int = 7) -> LaunchOwner:
    return LaunchOwner({"OWNER_PID": "12", "OWNER_START": str(start)})


def warned(*owners: LaunchOwner) -> list[str]:
    warnings: list[str] = []
    for each in owners:
        ignored.warn(IGNORED, each, warnings)
    return warnings


def test_launches_at_once_of_one_owner_have_one_warning(file: Path) -> None:
    together = threading.Barrier(MANY)
    warnings: list[str] = []

    def launch() -> None:
        together.wait()
        ignored.warn(IGNORED, owner(), warnings)

    for _ in range(20):
        warnings.clear()
        file.unlink(missing_ok=True)
        threads = [threading.Thread(target=launch) for _ in range(MANY)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(warnings) == 1


def test_each_owner_and_each_life_of_it_has_its_own(file: Path) -> None:
    assert len(warned(owner(7), owner(8), owner(7), owner(8))) == 2
    assert file.read_bytes().count(b"\n") == 2


def test_it_begins_anew_where_the_file_has_grown(file: Path) -> None:
    assert len(warned(owner())) == 1
    with file.open("ab") as full:
        full.write(b"x" * (1 << 20))
    assert len(warned(owner(), owner())) == 1
    assert file.stat().st_size < 1 << 10


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/dev/null", path)])
def test_what_is_in_the_way_costs_a_warning_more(file: Path, make) -> None:  # type: ignore[no-untyped-def]
    file.parent.mkdir()
    make(file)
    assert len(warned(owner(), owner())) == 2
