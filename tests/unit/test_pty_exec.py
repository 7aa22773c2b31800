"""What exec and the commands on runs say where the keeper is gone, or not understood."""

import pathlib
from collections.abc import Iterator

import pytest

from scopekeeper.cli import exec_run as cli
from scopekeeper.errors import ScopekeeperError, UnavailableError
from scopekeeper.exec import attach, run, start
from tests.unit.standin import Keeper, a_run
from tests.unit.test_pty_attach import _SECONDS, _called


@pytest.fixture
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state"))
    run.save(a_run())
    (a_run().folder / "output").write_bytes(b"")
    return tmp_path


@pytest.fixture
def keeper(folder: pathlib.Path) -> Iterator[Keeper]:
    keeper = Keeper(folder / "keeper", a_run())
    yield keeper
    keeper.close()


def test_where_it_cannot_be_attached_to_what_was_started_goes_on(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert folder

    def reach_again(_: float, *, start: bool) -> None:
        assert start
        raise UnavailableError("no keeper listens at /run/here")

    monkeypatch.setattr(attach, "reach_again", reach_again)
    with pytest.raises(ScopekeeperError) as caught:
        cli._attach(a_run(), b"")
    assert caught.value.status == 1
    assert str(caught.value) == (
        "cannot attach to 1a2b3c4d: no keeper listens at /run/here; "
        "the command was started, attach again: scopekeeper attach 1a2b3c4d"
    )


WRONG = [
    {"missed": "many"}, {"missed": -1}, {"missed": 1 << 80}, {"ended": {"at": "x"}, "problem": 3},
    {"problem": None}, {"problem": "words", "hint": ["more"]},
]  # fmt: skip


@pytest.mark.parametrize("answer", WRONG)
def test_an_answer_that_is_not_understood_is_one_line(
    folder: pathlib.Path, keeper: Keeper, answer: dict[str, object]
) -> None:
    called = _called(folder, "attach", "1a2b3c4d")
    keeper.write(b"READY")
    keeper.say(**answer)
    output, told = called.communicate(timeout=_SECONDS)
    assert called.returncode == 1
    assert told.startswith(b"scopekeeper: the keeper's answer is not understood: ")
    assert told.count(b"\n") == 1
    assert output in (b"", b"READY")


def test_a_problem_while_it_is_attached_ends_that(folder: pathlib.Path, keeper: Keeper) -> None:
    called = _called(folder, "attach", "1a2b3c4d")
    keeper.say(problem="its log cannot be read", hint="mend the disk")
    _, told = called.communicate(timeout=_SECONDS)
    assert (called.returncode, told) == (1, b"scopekeeper: its log cannot be read; mend the disk\n")


def test_a_long_command_line_is_kept_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCOPEKEEPER_SESSION", "s")
    words = ("sh", "-c", ": " + "x" * 100_000)
    known, _ = start.describe(start.Wish(words, {}))
    assert (known.argv[:2], len(known.argv[2]) < 9000) == (("sh", "-c"), True)
    words = ("sh", "-c", "true")
    assert start.describe(start.Wish(words, {}))[0].argv == words
