"""The search for scopes, and walks in them: everything of ours, and no stranger's tree stops it."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scopekeeper.kernel import cgroupfs
from scopekeeper.scope import outside
from scopekeeper.scope.search import Search
from tests import folders

SCOPE = "scopekeeper-a-main.scope"
LONG = [letter * 250 for letter in "abcdefghijklmnopqrst"]


@pytest.fixture
def top():
    """Make the top of a hierarchy in memory; pytest itself cannot remove what is that deep."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = Path(tempfile.mkdtemp(dir=memory))
    yield path
    assert folders.remove(path)


def make(top, *paths):
    """Make folders with one in each, since what has none in it cannot have a scope."""
    for path in paths:
        (top / path / "m-it.00000000").mkdir(parents=True)


def found(top, uid=None):
    return {os.path.relpath(path, top) for path in Search(str(top), uid).found}


def problems(top, uid=None):
    return {
        os.path.relpath(each.directory, top): each.problem for each in Search(str(top), uid).unread
    }


USER = "user.slice/user-1000.slice/user@1000.service"
PLACES = (
    f"scopekeeper.slice/{SCOPE}",
    f"{USER}/scopekeeper.slice/{SCOPE}",
    f"{USER}/app.slice/gateway.service/{SCOPE}",
    f"system.slice/gateway.service/{SCOPE}",
    f"scopekeeper/{SCOPE}",
    f"delegated/by/hand/{SCOPE}",
    f"machine.slice/machine-a.scope/payload/system.slice/{SCOPE}",
    f"docker/0123/scopekeeper/{SCOPE}",
    f"user.slice/user-1000.slice/session-1.scope/{SCOPE}",
)


def test_every_place_where_a_scope_can_be_is_looked_at(top):
    make(top, *PLACES)
    make(top, f"{PLACES[0]}/m-it.00000000/{SCOPE}")  # in a scope of ours is none
    assert found(top) == set(PLACES)
    assert problems(top) == {}


@pytest.mark.parametrize("names", [["deep"] * 1000, LONG], ids=["deep", "long"])
def test_what_is_nested_too_deep_is_left_out_and_counted_and_hides_nothing_else(top, names):
    make(top, *PLACES)
    hostile = ("system.slice/gateway.service", USER, f"{USER}/app.slice/gateway.service")
    for folder in hostile:
        os.close(folders.nest(top / folder, names))
    assert found(top) == set(PLACES)
    assert problems(top) == dict.fromkeys(hostile, "cgroups nested too deep")


def test_many_cgroups_cost_one_delegation_and_no_other(top):
    make(top, *PLACES)
    hostile = "system.slice/hostile.service"
    make(top, *(f"{hostile}/{number}" for number in range(60)), f"{hostile}/{SCOPE}")
    search = Search(str(top), None, most=50)
    assert {os.path.relpath(path, top) for path in search.found} >= set(PLACES)
    assert [each.problem for each in search.unread] == ["more than 50 cgroups"]
    assert search.unread[0].directory == str(top / hostile)


def test_our_own_slice_comes_before_what_else_is_in_a_manager(top):
    make(top, *PLACES, *(f"{USER}/n{outer}/{inner}" for outer in range(10) for inner in range(9)))
    search = Search(str(top), None, most=50)
    assert str(top / f"{USER}/scopekeeper.slice/{SCOPE}") in search.found
    assert [each.directory for each in search.unread] == [str(top / USER)]


def test_no_more_than_ten_places_of_one_delegation_are_named(top):
    for number in range(30):
        os.close(folders.nest(top, [f"a{number}.scope", *LONG]))
        os.makedirs(top / f"{USER}/a{number}.service")
        os.close(folders.nest(top / f"{USER}/a{number}.service", LONG))
    found = problems(top)
    assert found.pop(USER) == "more in it could not be read"
    assert len([path for path in found if path.startswith(USER)]) == 10
    assert len([path for path in found if not path.startswith(USER)]) == 30


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")
def test_what_belongs_to_a_third_user_is_not_entered(top):
    make(top, *PLACES)
    os.chown(top / USER, 1000, 1000)
    of_user = {path for path in PLACES if path.startswith(USER + "/")}
    assert found(top, 0) == set(PLACES) - of_user
    assert found(top, 1001) == set(PLACES) - of_user
    assert found(top, 1000) == set(PLACES)
    assert found(top) == set(PLACES)
    os.close(folders.nest(top / USER, LONG))
    assert problems(top, 0) == {}
    assert problems(top, 1000) == {USER: "cgroups nested too deep"}


NAMES = st.sampled_from(
    ["a.slice", "scopekeeper.slice", "b.service", "c.scope", "d", SCOPE, "scopekeeper-.scope"]
)
TREES = st.recursive(
    st.just({}), lambda inner: st.dictionaries(NAMES, inner, max_size=4), max_leaves=25
)


def lay(folder, tree):
    for name, inner in tree.items():
        (folder / name).mkdir()
        lay(folder / name, inner)


def expected(tree, path=""):
    """Say what is there, in the simplest way."""
    for name, inner in tree.items():
        if name == SCOPE:
            yield path + name
        else:
            yield from expected(inner, f"{path}{name}/")


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(TREES)
def test_all_scopes_of_any_tree_are_found(top, tree):
    lay(top, tree)
    assert found(top) == set(expected(tree))
    assert problems(top) == {}
    for name in tree:
        assert folders.remove(top / name)


def write(folder, *pids):
    (Path(folder) / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))


def test_processes_are_told_by_cgroup_and_what_is_too_deep_is_counted(top):
    make(top, "leaf/below")
    write(top / "leaf", 1, 2)
    write(top / "leaf/below", 3, 0, 0)
    os.close(folders.nest(top / "leaf", ["deep"] * 300))
    unread: list[cgroupfs.Unread] = []
    pids = cgroupfs.processes_by_cgroup(str(top / "leaf"), unread)
    assert pids[str(top / "leaf")] == [1, 2]
    assert pids[str(top / "leaf/below")] == [3, 0, 0]
    assert len(pids) == 1 + 2 + 100
    assert [each.problem for each in unread] == ["nested too deep"]
    for path in (top / "leaf", top / "leaf/below"):
        (path / "cgroup.procs").unlink()


@pytest.mark.parametrize("names", [["d"] * 1500, LONG * 3], ids=["deep", "long"])
def test_a_tree_of_any_depth_is_removed(top, names):
    os.close(folders.nest(top, ["leaf", *names]))
    make(top, "leaf/a/b", "leaf/c")
    assert cgroupfs.remove(str(top / "leaf"))
    assert not (top / "leaf").exists()


def test_what_is_in_use_stays_and_all_else_is_removed(top):
    make(top, "leaf/a/b", "leaf/c")
    write(top / "leaf/a/b")  # as a cgroup that is populated, it cannot be removed
    assert not cgroupfs.remove(str(top / "leaf"))
    assert (top / "leaf/a/b").is_dir()
    assert not (top / "leaf/c").exists()
    (top / "leaf/a/b/cgroup.procs").unlink()


def test_access_that_was_taken_away_from_us_is_given_back(top):
    make(top, "leaf/below")
    write(top / "leaf/below", 7)
    for path, mode in ((top / "leaf/below/cgroup.procs", 0), (top / "leaf/below", 0o200)):
        path.chmod(mode)
    (top / "leaf").chmod(0)
    cgroupfs.unlock(str(top / "leaf"))
    assert (top / "leaf").stat().st_mode & 0o777 == 0o700
    assert (top / "leaf/below").stat().st_mode & 0o777 == 0o700
    assert (top / "leaf/below/cgroup.procs").stat().st_mode & 0o777 == 0o600
    assert cgroupfs.processes(str(top / "leaf")) == [7]
    (top / "leaf/below/cgroup.procs").unlink()


def test_the_tests_own_walks_go_as_deep(top):
    os.close(folders.nest(top, ["d"] * 1500))
    assert len(list(folders.below(top))) == 1501
    os.close(folders.nest(top, LONG))
    assert len(list(folders.below(top))) > 1501


MANY = [f"{USER}/scopekeeper.slice/scopekeeper-{number}-main.scope" for number in range(70)]


def test_more_scopes_than_it_reads_other_cgroups_are_all_found(top):
    make(top, *MANY)
    search = Search(str(top), None, most=50)
    assert {os.path.relpath(path, top) for path in search.found} == set(MANY)
    assert search.unread == []


def test_the_processes_outside_are_found_without_a_look_into_a_scope(top, monkeypatch):
    make(top, *PLACES)
    looked: list[str] = []
    monkeypatch.setattr(cgroupfs, "own_processes", lambda path: looked.append(path) or [7, 0])
    assert outside._walk(str(top)) == [7]
    assert str(top / USER) in looked
    assert not [path for path in looked if SCOPE in path]
    few = len(looked)
    make(
        top, *(f"{USER}/scopekeeper.slice/scopekeeper-{number}-main.scope" for number in range(70))
    )
    looked.clear()
    assert outside._walk(str(top)) == [7]
    assert len(looked) == few
    make(top, *(f"{USER}/n{number}" for number in range(70)))
    monkeypatch.setattr(outside, "_MOST", 60)
    assert outside._walk(str(top)) is None


def test_what_is_outside_is_this_process_too():
    assert os.getpid() in set(outside.pids())
