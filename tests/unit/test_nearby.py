"""Which scopes a command about one session reads: all that may concern it, and no other."""

import os
from pathlib import Path

import pytest

from scopekeeper.scope import names, nearby
from scopekeeper.scope.nearby import About, about
from scopekeeper.scope.records import ATTRIBUTE, LAUNCHED, dumps
from scopekeeper.scope.selection import Selector

NOW = 10_000_000_000
LONG = "k" * 400


@pytest.fixture
def top(tmp_path: Path) -> Path:
    try:
        os.setxattr(tmp_path, ATTRIBUTE, b"x")
    except OSError:
        pytest.skip("this file system has no attributes of users")
    return tmp_path


def make(top: Path, session: str, lane: str = "main", run: str = "", **fields: str) -> str:
    """Make the folder of a scope with a record; a field that is '' is missing there."""
    path = top / names.unit_name(session, lane, run)
    path.mkdir()
    known = {"SESSION": session, "LANE": lane, "RUN": run, "BOOTTIME": "7", "MARKS": "1"}
    os.setxattr(path, ATTRIBUTE, dumps(known | fields))
    return str(path)


def leaf(scope: str, name: str, *, says: str = "") -> None:
    path = f"{scope}/{names.leaf_name(name, '00000001')}"
    os.mkdir(path)
    os.setxattr(path, ATTRIBUTE, dumps({"NAME": says or name}))


def read(top: Path, wanted: About) -> set[str]:
    return set(wanted.of([str(each) for each in sorted(top.iterdir())], NOW))


@pytest.mark.parametrize(
    "word",
    ["s", "the label", "an-id", "r1", "scopekeeper-s-main-r1", "scopekeeper-s-main-r1.scope"],
)
def test_any_name_of_a_scope_chooses_it_and_no_other(top: Path, word: str) -> None:
    mine = make(top, "s", run="r1", LABEL="the label", SESSION_ID="an-id")
    make(top, "t", lane="s", SESSION_ID="another", LABEL="the label of t")
    assert read(top, About(frozenset((word,)))) == {mine}


def test_the_name_of_a_lane_chooses_nothing(top: Path) -> None:
    make(top, "s", lane="main")
    main = make(top, "main", lane="cron")
    assert read(top, About(frozenset(("main",)))) == {main}


def test_a_label_chooses_all_scopes_of_its_session(top: Path) -> None:
    both = {make(top, "s", run="1", LABEL="x\ny"), make(top, "s", run="2")}
    make(top, "t")
    assert read(top, About(frozenset(("x\ny",)))) == both


def test_what_may_concern_any_name_is_chosen_too(top: Path) -> None:
    make(top, "plain")
    chosen = {
        make(top, "old", MARKS=""),
        make(top, "new", BOOTTIME=str(NOW - 1_000_000)),
        make(top, "later", BOOTTIME=str(NOW + 1_000_000)),
        make(top, "no-time", BOOTTIME=""),
        make(top, "forged", BOOTTIME="9" * 30),
        make(top, LONG),
    }
    bare = top / names.unit_name("bare", "main")
    bare.mkdir()
    launched = make(top, "launched")
    os.setxattr(launched, LAUNCHED, b"1")
    assert read(top, About(frozenset())) == {*chosen, str(bare), launched}


def test_without_a_scope_of_the_name_all_are_read_if_that_may_be_a_members(top: Path) -> None:
    every = {make(top, "s"), make(top, "t")}
    assert read(top, About(frozenset(("git",)))) == set()
    assert read(top, About(frozenset(("git",)), or_all=True)) == every
    assert read(top, About(frozenset(("s", "git")), or_all=True)) == every
    assert read(top, About(frozenset(("s", "t")), or_all=True).later()) == every


def test_members_are_found_by_name_id_leaf_and_by_what_their_record_says(top: Path) -> None:
    one, two, three = make(top, "s"), make(top, "t"), make(top, "u")
    leaf(one, "git")
    leaf(two, "time", says="git")
    for word, found in (("git", {one, two}), ("m-git.00000001", {one}), ("00000001", {one, two})):
        assert read(top, About(frozenset((word,)), members=True)) == found
    os.mkdir(f"{one}/m-unknown.00000002")
    assert read(top, About(frozenset(("u",)), members=True)) == {one, three}


def test_a_session_that_is_named_with_other_options_is_enough_and_a_word_then_is_not() -> None:
    assert about((), Selector(session="s", lane="main", name="git")) == About(
        frozenset("s"), or_all=True
    )
    assert about((), Selector(session_id="x")) == About(frozenset("x"), or_all=True)
    assert about(("s",), Selector(lane="main")) == About(frozenset("s"), or_all=True, members=True)
    assert about((), Selector(name="git")) is None
    assert about((), Selector()) is None
    assert about(("s",), Selector(), members=True) == About(frozenset("s"), members=True)


def test_a_scope_is_new_for_longer_than_a_stop_waits_for_launches() -> None:
    from scopekeeper.lifecycle.stop_launched import SETTLE_SECONDS

    assert nearby._NEW_USEC > SETTLE_SECONDS * 1e6
