"""Killed before any change that it makes to the disk, a removal is brought to its end by the next.

The interpreter tells of each such change beforehand (audit events), and writes are counted here: a
child dies at the first, the next one at the second, and so on until one comes through.
"""

import itertools
import os

import pytest

from scopekeeper.errors import ScopekeeperError
from scopekeeper.owned.claim import Kind
from scopekeeper.owned.claim_running import give
from scopekeeper.owned.release import release_due
from tests.owned import LEAF, World, dies_at


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state" / "scopekeeper"))
    return World(tmp_path)


def test_a_removal_killed_at_any_step_is_finished_by_the_next(world):
    kept = world.folder("kept")
    for step in itertools.count():
        world.own(world.folder())
        died = dies_at(step, lambda: release_due(world.mount))
        if died:
            assert set(world.release().values()) <= {"removed", "gone"}
        assert sorted(os.listdir(world.room)) == ["kept"]
        assert world.kept() == []
        assert sorted(os.listdir(world.store.folder)) == [".release"]
        if not died:
            break
    assert step >= 6
    assert os.path.exists(f"{kept}/inner/mcp.json")


def test_a_removal_killed_again_and_again_comes_to_its_end(world):
    world.own(world.folder())
    rounds = 0
    while os.listdir(world.room):
        dies_at(3, lambda: release_due(world.mount))
        rounds += 1
        assert rounds < 50
    world.release()
    assert world.kept() == []


def test_a_path_that_is_used_anew_after_a_crash_is_not_removed(world):
    for step in itertools.count():
        path = world.folder()
        world.own(path)
        died = dies_at(step, lambda: release_due(world.mount))
        if not died:
            break
        if not os.path.exists(path):
            new = world.folder()
            world.release()
            assert os.path.exists(f"{new}/inner/mcp.json"), step
            os.rename(new, f"{world.top}/new.{step}")
        else:
            world.release()
        assert os.listdir(world.room) == []
        assert world.kept() == []


def test_a_handover_killed_at_any_step_has_happened_or_not(world):
    for step in itertools.count():
        path = world.folder(f"turn{step}")
        world.populate(os.getpid())
        member = world.here.living(Kind.MEMBER, LEAF)

        def work(path=path, member=member):
            give(world.store, world.here, [path], [member], keep=True)

        died = dies_at(step, work)
        handed_over = world.kept() == [path]
        assert handed_over or world.kept() == []
        assert world.release() == {}
        assert os.path.exists(path)
        world.populate()
        world.release()
        assert os.path.exists(path) is not handed_over
        assert world.kept() == []
        assert not [entry for entry in os.listdir(world.store.folder) if entry[:2] == ".n"]
        if not died:
            break
    assert handed_over
    assert step >= 5


def test_two_that_release_at_once_remove_once(world):
    for number in range(20):
        world.own(world.folder(f"turn{number}"))
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            failed = True
            try:
                report = release_due(world.mount)
                failed = report.failed or any(o.what != "removed" for o in report.done)
            except ScopekeeperError:
                pass
            finally:
                os._exit(int(failed))
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert os.listdir(world.room) == []
    assert world.kept() == []
