"""What is not a regular file of this user is named, not waited for, and harms nothing beside it."""

import os
import signal
import sqlite3

import pytest

from scopekeeper import keeper_address, regular_files
from scopekeeper.errors import HistoryError, StateError
from scopekeeper.exec import log, spawn_keeper
from scopekeeper.exec import run as runs
from scopekeeper.exec.run import Run
from scopekeeper.history.store import FILE, HistoryStore
from scopekeeper.owned.release import release_due
from tests.owned import World
from tests.unit import strange
from tests.unit.ends import an_end, member

PATIENCE = 60
KINDS = pytest.mark.parametrize("kind", strange.KINDS)


@pytest.fixture(autouse=True)
def _no_hanging():
    """Fail where something is waited for."""

    def late(*_):
        raise TimeoutError("it waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(PATIENCE)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def state(tmp_path, monkeypatch):
    folder = tmp_path / "state"
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(folder))
    return folder


@KINDS
def test_it_is_named_by_whoever_opens_it(tmp_path, kind):
    path, words = tmp_path / "file", strange.KINDS[kind]
    strange.put(path, kind)
    with pytest.raises(OSError, match=words) as caught:
        regular_files.read(path)
    assert caught.value.filename == path
    assert words in regular_files.problem_of(path, regular_files.SMALL)
    if kind != "huge":
        for flags in (os.O_WRONLY | os.O_CREAT, os.O_RDWR | os.O_CREAT, os.O_RDONLY | os.O_CREAT):
            with pytest.raises(OSError, match=words):
                regular_files.open_regular(path, flags)
    assert not (tmp_path / "nowhere").exists(), "a link was followed"


def test_a_file_is_read_up_to_what_it_may_have(tmp_path):
    path = tmp_path / "file"
    for size in (0, 1, 65_536, 65_537, 100_000):
        path.write_bytes(b"x" * size)
        assert regular_files.read(path, 100_000) == b"x" * size
    with pytest.raises(OSError, match="100000 bytes, more than 99999"):
        regular_files.read(path, 99_999)
    assert regular_files.problem_of(path) == ""
    assert regular_files.problem_of(tmp_path / "none") == ""
    with pytest.raises(FileNotFoundError):
        regular_files.read(tmp_path / "none")


def test_one_is_made_with_its_mode_and_not_passed_on(tmp_path):
    fd = regular_files.open_regular(tmp_path / "new", os.O_WRONLY | os.O_CREAT)
    try:
        assert os.fstat(fd).st_mode & 0o777 == 0o600
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


@KINDS
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_a_history_in_whose_place_it_is_says_so_in_one_line(state, kind, suffix):
    state.mkdir(0o700)
    HistoryStore(state).write([an_end()])
    path = state / f"{FILE}{suffix}"
    strange.put(path, kind)
    for call in (lambda: HistoryStore(state).write([an_end(member(2))]), HistoryStore(state).read):
        with pytest.raises(HistoryError) as caught:
            call()
        assert f"{path}: " in str(caught.value)
        assert strange.KINDS[kind] in str(caught.value)
        assert "mv " in caught.value.hint
        assert "\n" not in str(caught.value)


@KINDS
def test_a_history_whose_lock_it_is_can_be_read(state, kind):
    state.mkdir(0o700)
    HistoryStore(state).write([an_end()])
    strange.put(state / "history.lock", kind)
    assert HistoryStore(state).read() == [an_end()]
    if kind == "huge":
        assert HistoryStore(state).write([an_end(member(2))])[1] == ""
    else:
        with pytest.raises(HistoryError, match=strange.KINDS[kind]):
            HistoryStore(state).write([an_end(member(2))])


WRONG = {
    "session": b"\0", "started": "yesterday", "argv": "[" * 100_000, "evidence": b"5",
    "pid": "--5", "stopper_pid": 0.5, "member_id": b"\xff", "killed": "9" * 5000,
}  # fmt: skip


@pytest.mark.parametrize("column", WRONG)
def test_a_row_of_wrong_types_is_a_damaged_history_and_no_other_error(state, column):
    state.mkdir(0o700)
    HistoryStore(state).write([an_end()])
    with sqlite3.connect(state / FILE) as connection:
        connection.execute(f"UPDATE ends SET {column} = ?", (WRONG[column],))
    connection.close()
    with pytest.raises(HistoryError, match="the history is damaged"):
        HistoryStore(state).read()


@KINDS
def test_it_is_one_damaged_claim_and_the_others_are_done(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state/scopekeeper"))
    world = World(tmp_path)
    path = world.folder()
    world.own(path)
    damaged = tmp_path / "state/scopekeeper/owned" / f"{'0' * 16}.claim"
    strange.put(damaged, kind)
    report = release_due(world.mount)
    assert [each.file for each in report.damaged] == [str(damaged)]
    assert strange.KINDS[kind] in report.damaged[0].problem
    assert not report.problem
    assert [outcome.what for outcome in report.done] == ["removed"]
    assert not os.path.exists(path)
    if kind != "huge":
        strange.put(damaged.with_name(".release"), kind)
        problem = release_due(world.mount).problem
        assert ".release: it " in problem
        assert strange.KINDS[kind] in problem


def a_run(run_id):
    return Run(run_id, "s", "main", "sh", ("sh",), started=5, boot_id="b")


@KINDS
def test_it_is_one_run_that_cannot_be_read_and_no_output_of_any(state, kind):
    for run_id in ("0000000a", "0000000b"):
        runs.save(a_run(run_id))
    folder = state / "runs/0000000a"
    strange.put(folder / runs.FILE, kind)
    (told,) = runs.unreadable()
    assert strange.KINDS[kind] in told
    assert "\n" not in told
    assert [each.id for each in runs.load_all()] == ["0000000b"]
    if kind in ("huge", "another's"):
        return
    for name in (f"out.{0:020}", "times"):
        strange.put(folder / name, kind)
    written = log.Log(folder, 1 << 20)
    assert written.write(b"lost") == 4
    assert written.write(b"kept") == 4
    written.close()
    assert log.tail(folder, 10) in (b"kept", b"")
    assert log.read(folder, 0, 10)[1] in (b"kept", b"")
    assert log.since(folder, 0) in (0, 8)
    assert log.last_lines(folder, 5) in (0, 4)


@KINDS
def test_it_is_no_lock_and_no_log_of_a_keeper(state, kind, monkeypatch):
    state.mkdir(0o700)
    monkeypatch.setattr(keeper_address, "address", lambda: f"{state}/keeper")
    strange.put(state / "keeper.lock", kind)
    assert not keeper_address.runs()
    if kind == "huge":
        return
    with pytest.raises(StateError, match=strange.KINDS[kind]):
        keeper_address.only_one()
    strange.put(state / spawn_keeper.LOG, kind)
    with pytest.raises(StateError, match=strange.KINDS[kind]):
        spawn_keeper._open(state / spawn_keeper.LOG)
