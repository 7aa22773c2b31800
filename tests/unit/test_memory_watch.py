"""Memory near a limit is reported once; nobody looks where no rule asks and no limit is."""

import asyncio

import pytest

from scopekeeper.keeper import memory_watch
from scopekeeper.keeper.memory_watch import MemoryWatch
from scopekeeper.scope.model import Member, Scope

MIB = 1 << 20


class Cgroup:
    """A folder with the files of a cgroup that limits memory."""

    def __init__(self, folder, used=0, limit="max", high="max"):
        folder.mkdir()
        self.folder = folder
        for name, value in (("max", limit), ("high", high)):
            (folder / f"memory.{name}").write_text(f"{value}\n")
        self.use(used)

    def use(self, used, inactive=0):
        (self.folder / "memory.current").write_text(f"{used}\n")
        (self.folder / "memory.stat").write_text(f"anon {used}\ninactive_file {inactive}\n")


def scope(cgroup, *members):
    path = str(cgroup.folder)
    return Scope("a.scope", path, path, 0, "a", "main", strays=(1,), members=members)


def member(cgroup):
    return Member("m", "00000000", str(cgroup.folder), "", pids=(1,))


@pytest.fixture
def watched(monkeypatch):
    """Run a scene with scopes and shares, in a loop, with looks that follow at once."""
    monkeypatch.setattr(memory_watch, "SECONDS", 0.005)

    def run(scene, scopes, shares=frozenset({0.8})):
        async def main():
            told = []
            loop = asyncio.get_running_loop()
            watch = MemoryWatch(loop, lambda: scopes, lambda: shares, told.append)
            watch.changed()
            await scene(watch, told)
            watch.close()

        asyncio.run(main())

    return run


async def looks(count=3):
    await asyncio.sleep(0.005 * count * 3)


def test_it_is_reported_once_until_it_has_fallen(tmp_path, watched):
    group = Cgroup(tmp_path / "a", used=79 * MIB, limit=100 * MIB)

    async def scene(watch, told):
        await looks()
        assert not told
        group.use(80 * MIB)
        await looks()
        (found,) = told
        assert (found.used, found.limit, found.share) == (80 * MIB, 100 * MIB, 0.8)
        assert found.member is None
        group.use(76 * MIB)
        await looks()
        group.use(90 * MIB)
        await looks()
        assert len(told) == 1, "it swings around the share"
        group.use(70 * MIB)
        await looks()
        group.use(90 * MIB)
        await looks()
        assert len(told) == 2

    watched(scene, [scope(group)])


def test_what_the_kernel_can_drop_does_not_count(tmp_path, watched):
    group = Cgroup(tmp_path / "a", limit=100 * MIB)
    group.use(99 * MIB, inactive=50 * MIB)

    async def scene(watch, told):
        await looks()
        assert not told

    watched(scene, [scope(group)])


def test_a_member_with_a_limit_of_its_own_is_named_and_each_share_reported(tmp_path, watched):
    around = Cgroup(tmp_path / "a", used=95 * MIB)
    inside = Cgroup(tmp_path / "a" / "m", used=95 * MIB, limit=200 * MIB, high=100 * MIB)

    async def scene(watch, told):
        await looks()
        assert {each.share for each in told} == {0.5, 0.9}
        assert {each.member.name for each in told} == {"m"}

    watched(scene, [scope(around, member(inside))], frozenset({0.5, 0.9, 0.99}))


def test_without_a_rule_or_a_limit_nobody_is_woken(tmp_path, watched):
    limited = Cgroup(tmp_path / "a", used=99 * MIB, limit=100 * MIB)
    free = Cgroup(tmp_path / "b", used=99 * MIB)

    async def scene(watch, told):
        assert watch._timer is None
        await looks()
        assert not told

    watched(scene, [scope(limited)], frozenset())
    watched(scene, [scope(free)])


def test_a_limit_that_is_set_later_counts(tmp_path, watched):
    first = Cgroup(tmp_path / "a", used=1, limit=100 * MIB)
    later = Cgroup(tmp_path / "b", used=99 * MIB)

    async def scene(watch, told):
        await looks()
        (later.folder / "memory.max").write_text(f"{100 * MIB}\n")
        async with asyncio.timeout(60):
            while not told:  # noqa: ASYNC110  nobody sets an event
                await asyncio.sleep(0.005)

    watched(scene, [scope(first), scope(later)])
