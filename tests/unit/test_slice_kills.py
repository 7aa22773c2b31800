"""OOM kills that only the slice has counted."""

import pytest

from scopekeeper.keeper.slice_kills import SliceKills, kills_of


@pytest.fixture
def cgroups(tmp_path):
    """Give a function that writes how often there was a kill in a cgroup, and returns its path."""

    def write(name, kills, parent="scopekeeper.slice"):
        directory = tmp_path / parent / name
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "memory.events").write_text(f"low 0\noom 9\noom_kill {kills}\n")
        return str(directory)

    return write


def test_what_no_scope_has_counted_is_unexplained(cgroups):
    cgroups("", 5)
    one, other = cgroups("one.scope", 0), cgroups("other.scope", 0)
    kills = SliceKills()
    kills.begin(one, reported=0)
    kills.begin(other, reported=0)
    assert not kills.has_unexplained(one)
    cgroups("", 7)
    assert kills.has_unexplained(one)
    kills.explain(other, 1)
    assert kills.has_unexplained(one)
    kills.explain(other, 1)
    assert not kills.has_unexplained(one)


@pytest.mark.parametrize(("reported", "after"), [(0, 2), (2, 0)])
def test_what_the_first_scope_counted_before_is_no_kill_of_another(cgroups, reported, after):
    """A scope that is new is reported with its count, one that was there at the start is not."""
    cgroups("", 6)
    one = cgroups("one.scope", 2)
    kills = SliceKills()
    kills.begin(one, reported=reported)
    kills.explain(one, after)
    assert not kills.has_unexplained(one)
    cgroups("", 7)
    assert kills.has_unexplained(one)


def test_what_is_forgotten_is_not_found_again(cgroups):
    cgroups("", 0)
    one = cgroups("one.scope", 0)
    kills = SliceKills()
    kills.begin(one, reported=0)
    cgroups("", 1)
    kills.forget_unexplained(one)
    assert not kills.has_unexplained(one)
    cgroups("", 2)
    assert kills.has_unexplained(one)


def test_a_kill_that_is_explained_twice_hides_no_later_one(cgroups):
    cgroups("", 0)
    one = cgroups("one.scope", 0)
    kills = SliceKills()
    kills.begin(one, reported=0)
    cgroups("", 1)
    kills.forget_unexplained(one)
    kills.explain(one, 1)
    cgroups("", 2)
    assert kills.has_unexplained(one)


def test_the_counts_of_a_service_prove_nothing(cgroups):
    """Its own processes are counted as well."""
    cgroups("", 0, parent="gateway.service")
    one = cgroups("one.scope", 0, parent="gateway.service")
    kills = SliceKills()
    kills.begin(one, reported=0)
    cgroups("", 1, parent="gateway.service")
    assert not kills.has_unexplained(one)
    kills.explain(one, 1)
    kills.forget_unexplained(one)


def test_a_cgroup_that_is_gone_or_has_no_controller_has_no_kills(tmp_path):
    assert kills_of(str(tmp_path / "none")) == kills_of(str(tmp_path)) == 0
