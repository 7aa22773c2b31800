"""A scratch folder above its maximum is reported once; nobody looks where no rule has one."""

import asyncio
import dataclasses
import os

import pytest

from scopekeeper.keeper import notices, scratch_watch
from scopekeeper.keeper.jobs import Jobs
from scopekeeper.keeper.scratch_watch import ScratchWatch
from scopekeeper.owned.claim import Kind
from scopekeeper.owned.scratch import ScratchFolder
from scopekeeper.scope.model import Member, Scope
from tests.owned import LEAF, SCOPE, World

KIB = 1 << 10


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state" / "scopekeeper"))
    (tmp_path / "shared").mkdir()
    monkeypatch.setenv("SCOPEKEEPER_SCRATCH", str(tmp_path / "shared"))
    monkeypatch.setattr(scratch_watch, "SECONDS", 0.005)
    monkeypatch.setattr(scratch_watch, "SOON", 0.001)
    return World(tmp_path)


def folder(world, most):
    """Make a scratch folder of the member of the imitated cgroupfs."""
    made = ScratchFolder("s", "main", "it", most)
    (claim,) = world.store.read()[0]
    world.store.write(dataclasses.replace(claim, holder=world.here.living(Kind.MEMBER, LEAF)))
    return made.path


def fill(path, kib):
    with open(f"{path}/file", "wb") as file:
        file.write(b"x" * kib * KIB)


def scopes():
    member = Member("it", "0123abcd", LEAF, LEAF, kind="mcp", pids=(1,))
    return (Scope("a.scope", SCOPE, SCOPE, 0, "s", "main", strays=(1,), members=(member,)),)


def run(scene, *, wanted=True, there=scopes):
    """Run a scene with a watch; return the paths of what was reported."""
    told = []

    async def main():
        jobs = Jobs(asyncio.get_running_loop(), lambda: None)
        watch = ScratchWatch(jobs, there, lambda: wanted, told.append)
        watch.changed()
        await scene(watch, told)
        watch.close()
        await jobs.finish(5)

    asyncio.run(main())
    return told


async def until(condition):
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError


async def looks(monkeypatch, count=3):
    """Wait until it has looked so many times more."""
    seen, real = [], scratch_watch.of_members

    def counted(*arguments, **options):
        seen.append(1)
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(scratch_watch, "of_members", counted)
        await until(lambda: len(seen) > count)


def test_it_is_reported_once_until_it_is_small_again(world, monkeypatch, caplog):
    path = folder(world, 100 * KIB)
    fill(path, 96)

    async def scene(_, told):
        await looks(monkeypatch)
        assert not told
        fill(path, 104)
        await until(lambda: told)
        (found,) = told
        assert (found.member.name, found.path, found.limit) == ("it", path, 100 * KIB)
        assert found.used == 104 * KIB
        await looks(monkeypatch)
        fill(path, 97)
        await looks(monkeypatch)
        fill(path, 104)
        await looks(monkeypatch)
        assert len(told) == 1, "it swings around the maximum"
        fill(path, 50)
        await looks(monkeypatch)
        fill(path, 104)
        await until(lambda: len(told) == 2)

    told = run(scene)
    assert len(told) == 2
    assert f"it of s: {path} has 104K, scratch_max is 100K" in caplog.text
    assert notices.fields(told[0])["scratch_bytes"] == 104 * KIB


def test_nobody_looks_where_no_rule_has_a_maximum(world, monkeypatch):
    fill(folder(world, 1), 8)
    monkeypatch.setattr(scratch_watch, "of_members", lambda *_, **__: 1 / 0)

    async def scene(watch, _):
        watch.changed()
        assert watch._timer is None

    assert run(scene, wanted=False) == []


def test_it_sleeps_where_no_member_has_a_folder_and_wakes_for_the_next(world, monkeypatch):
    there = [scopes()]

    async def scene(watch, told):
        await until(lambda: watch._timer is None)
        watch.changed()
        assert watch._timer is None, "nothing has changed"
        fill(folder(world, KIB), 8)
        (scope,) = scopes()
        more = dataclasses.replace(scope.members[0], member_id="0123abce", cgroup=f"{SCOPE}/m-x.0")
        there[0] = (dataclasses.replace(scope, members=(*scope.members, more)),)
        watch.changed()
        await until(lambda: told)

    assert len(run(scene, there=lambda: there[0])) == 1


def test_a_state_folder_that_cannot_be_trusted_is_logged_once(world, caplog):
    fill(folder(world, KIB), 8)
    os.chmod(world.store.folder, 0o777)

    async def scene(watch, _):
        await until(lambda: "are unknown" in caplog.text)
        watch._seen = frozenset()
        watch.changed()
        await until(lambda: watch._timer is None and watch._seen)

    assert run(scene) == []
    assert caplog.text.count("are unknown") == 1
