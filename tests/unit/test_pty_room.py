"""All runs together take no more of the disk than they may."""

import contextlib
import dataclasses
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scopekeeper.exec.log import Log
from scopekeeper.exec.log_retention import Tidied, tidy
from scopekeeper.exec.run import FILE, Ended, Run, load_all, save

GONE = Ended(at=0, reason="exited", exit_status=0)


@pytest.fixture
def state(tmp_path, monkeypatch):
    """A state directory of the test's own."""
    folder = tmp_path / "state"
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(folder))
    return folder


def a_run(number, *, ended=None, size=0):
    """Make the folder of a run that wrote size bytes, and ended then."""
    run = Run(
        id=f"{number:08x}", session="s", lane="main", name="sh", argv=("sh",), started=number,
        boot_id="b", ended=None if ended is None else dataclasses.replace(GONE, at=ended),
    )  # fmt: skip
    save(run)
    written = Log(run.folder, 1 << 30)
    written.write(os.urandom(size))
    written.close()
    return run.id


def there():
    return {run.id for run in load_all()}


def used(folder):
    """Ask another program what a folder takes."""
    told = subprocess.run(["du", "-s", "-B1", folder], capture_output=True, text=True, check=True)
    return int(told.stdout.split()[0])


def test_where_nothing_ran_there_is_nothing_to_do(state):
    assert tidy() == Tidied()
    assert not state.exists()


def test_the_oldest_end_goes_first_until_the_rest_fits(state):
    third, first, second = (
        a_run(n, ended=end, size=100_000) for n, end in ((1, 9), (2, 5), (3, 7))
    )
    most = used(state / "runs") - 1
    assert tidy(most) == Tidied((first,))
    assert there() == {second, third}
    assert used(state / "runs") <= most
    assert tidy(most) == Tidied()
    assert tidy(0).removed == (second, third)
    assert os.listdir(state / "runs") == []


def test_what_has_not_ended_stays_however_much_it_takes(state):
    going, ended = a_run(1, size=300_000), a_run(2, ended=5)
    assert tidy(most=0, ended_keep=0) == Tidied((ended,))
    assert there() == {going}


def test_so_many_ended_ones_stay(state):
    ended = [a_run(n, ended=n) for n in range(1, 8)]
    going = a_run(9)
    assert tidy(ended_keep=3) == Tidied(tuple(ended[:4]))
    assert there() == {*ended[4:], going}


def test_what_is_no_run_or_cannot_be_read_is_left_alone(state):
    a_run(1, ended=1)
    damaged, other = state / "runs" / "0badc0de", state / "runs" / "notes"
    damaged.mkdir()
    (damaged / FILE).write_text("{")
    other.write_text("mine")
    assert tidy(0, 0).removed == ("00000001",)
    assert sorted(os.listdir(state / "runs")) == ["0badc0de", "notes"]


def test_a_removal_that_was_cut_short_is_finished(state):
    ended = a_run(1, ended=1, size=1000)
    left = state / "runs" / f".removed.{ended}"
    (state / "runs" / ended).rename(left)
    assert tidy() == Tidied()
    assert os.listdir(state / "runs") == []


def test_a_link_to_elsewhere_is_removed_and_not_what_it_leads_to(state, tmp_path):
    ended = a_run(1, ended=1)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").write_text("stays")
    (state / "runs" / ended / "link").symlink_to(elsewhere)
    assert tidy(0) == Tidied((ended,))
    assert (elsewhere / "file").read_text() == "stays"


def test_who_reads_it_reads_on(state):
    ended = a_run(1, ended=1, size=1000)
    path = next((state / "runs" / ended).glob("out.*"))
    with path.open("rb") as reader:
        assert tidy(0).removed == (ended,)
        assert len(reader.read()) == 1000


def as_another(folder, work):
    """Do some work as a user whom permissions bind, in a child; return its exit status."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            if os.geteuid() == 0:
                for path in (folder, *folder.rglob("*")):
                    os.chown(path, 65534, 65534)
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            work()
            os._exit(0)
        os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("stuck", ["all", "one"])
def test_a_folder_that_cannot_be_removed_is_told_and_the_others_go(monkeypatch, stuck):
    # where another user can come to
    with tempfile.TemporaryDirectory(dir="/tmp") as base:
        folder = Path(base)
        monkeypatch.setenv("SCOPEKEEPER_STATE", str(folder / "state"))
        first, second = a_run(1, ended=1), a_run(2, ended=2)
        inner = folder / "state" / "runs" / first / "inner"
        inner.mkdir()
        (inner / "file").write_text("x")
        locked = folder / "state" / "runs" if stuck == "all" else inner

        def work():
            locked.chmod(stat.S_IRUSR | stat.S_IXUSR)
            told = tidy(0)
            assert told.removed == (() if stuck == "all" else (second,))
            assert len(told.problems) == (2 if stuck == "all" else 1)
            assert first in told.problems[0]
            assert "Permission denied" in told.problems[0]
            if stuck == "one":
                assert first in tidy(0).problems[0]

        try:
            assert as_another(folder, work) == 0
        finally:
            locked = next(locked.parent.parent.glob("*/inner"), locked)
            locked.chmod(0o700)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.none() | st.integers(1, 9), st.integers(0, 60_000)), max_size=8),
    st.integers(0, 300_000),
    st.integers(0, 8),
)
def test_whatever_there_is_the_rules_hold(tmp_path_factory, wanted, most, keep):
    with pytest.MonkeyPatch.context() as patch:
        state = tmp_path_factory.mktemp("state")
        patch.setenv("SCOPEKEEPER_STATE", str(state))
        (state / "runs").mkdir()
        made = {a_run(n, ended=end, size=size): end for n, (end, size) in enumerate(wanted)}
        told = tidy(most, keep)
        left = there()
        assert {*made} - left == {*told.removed}
        assert {each for each, end in made.items() if end is None} <= left
        ended = [made[each] for each in left if made[each] is not None]
        assert len(ended) <= keep
        assert not ended or used(state / "runs") <= most
        assert all(made[gone] <= end for gone in told.removed for end in ended)
        shutil.rmtree(state)
