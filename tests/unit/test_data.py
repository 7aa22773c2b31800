"""Data classes of scopekeeper.data do what those of dataclasses do."""

import copy
import dataclasses
import pickle
from typing import Any

import pytest

from scopekeeper import data


class Body:
    """A body."""

    name: str
    count: int = 0
    note: str = data.field(default="", compare=False)
    more: dict[str, Any] = data.field(default_factory=dict)

    @property
    def twice(self):
        return self.count * 2


class RealBody:
    """A body."""

    name: str
    count: int = 0
    note: str = dataclasses.field(default="", compare=False)
    more: dict[str, Any] = dataclasses.field(default_factory=dict)


class Pair:
    one: int
    two: str = "2"


Light = data.dataclass(frozen=True, slots=True)(Body)
Real = dataclasses.dataclass(frozen=True, slots=True)(RealBody)
Hashed = data.dataclass(frozen=True, slots=True)(Pair)
Mutable = data.dataclass(slots=True)(Pair)
Identical = data.dataclass(slots=True, eq=False)(Pair)
Pair = Hashed  # pickle finds a class by its name


def test_it_is_made_by_position_and_by_name_with_defaults():
    made = Light("a", 2, more={"x": 1})
    assert (made.name, made.count, made.note, made.more, made.twice) == ("a", 2, "", {"x": 1}, 4)
    assert Light("a").more is not Light("b").more


@pytest.mark.parametrize("given", [((), {}), (("a", 1, "", {}, 5), {}), (("a",), {"mars": 1}),
                                   (("a",), {"name": "b"})])  # fmt: skip
def test_wrong_arguments_are_refused_as_by_dataclasses(given):
    words, named = given
    texts = []
    for kind in (Light, Real):
        with pytest.raises(TypeError) as refused:
            kind(*words, **named)
        texts.append(str(refused.value).rpartition("__init__")[2])
    assert texts[0] == texts[1]


@pytest.mark.parametrize("given", [((), {}), (("a", 1, "", {}, 5), {}), (("a",), {"mars": 1}),
                                   (("a",), {"name": "b"})])  # fmt: skip
def test_the_many_objects_are_as_the_few(given):
    kind = data.dataclass(frozen=True)(Body)
    first = kind("a", 2, more={"x": 1})
    for number in range(2 * data._FEW):
        assert kind("a", 2, more={"x": 1}) == first
        assert kind(name="a", count=number).count == number
    assert kind.__init__.__code__.co_varnames == ("self", "name", "count", "note", "more")
    words, named = given
    with pytest.raises(TypeError):
        kind(*words, **named)


def test_equality_leaves_out_what_is_not_compared():
    assert Light("a", note="x") == Light("a", note="y")
    assert Light("a") != Light("b")
    assert Light("a") != Real("a")
    assert Hashed(1) == Hashed(1)
    assert len({Hashed(1), Hashed(1), Hashed(2)}) == 2


def test_only_a_frozen_one_is_hashable_and_only_without_eq_by_identity():
    with pytest.raises(TypeError, match="unhashable"):
        hash(Mutable(1))
    assert Mutable(1) == Mutable(1)
    assert Identical(1) != Identical(1)
    assert len({Identical(1), Identical(1)}) == 2


def test_a_frozen_one_cannot_be_changed():
    made = Light("a")
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.name = "b"
    with pytest.raises(dataclasses.FrozenInstanceError):
        del made.name
    mutable = Mutable(1)
    mutable.one = 5
    assert mutable.one == 5
    with pytest.raises(AttributeError):
        mutable.three = 3
    assert not hasattr(made, "__dict__")


def test_it_shows_its_values_and_matches_patterns():
    assert repr(Light("a")) == "Body(name='a', count=0, note='', more={})"
    match Hashed(1, "x"):
        case Hashed(one, two):
            assert (one, two) == (1, "x")


def test_a_changed_copy():
    made = data.replace(Light("a", 1), count=5)
    assert (made.name, made.count) == ("a", 5)
    assert dataclasses.replace(Light("a", 1), count=5) == made
    with pytest.raises(TypeError):
        data.replace(made, mars=1)


def test_copies_and_pickles():
    made = Hashed(1, "x")
    assert copy.copy(made) == copy.deepcopy(made) == made
    assert pickle.loads(pickle.dumps(made)) == made


def test_the_functions_of_dataclasses_know_it():
    assert data.values(Light("a")) == dataclasses.asdict(Real("a"))
    assert dataclasses.asdict(Light("a")) == dataclasses.asdict(Real("a"))
    for mine, real in zip(dataclasses.fields(Light), dataclasses.fields(Real), strict=True):
        assert (mine.name, mine.type, mine.default, mine.compare) == (
            real.name, real.type, real.default, real.compare)  # fmt: skip
    assert dataclasses.is_dataclass(Light)


def test_slots_are_not_left_out():
    with pytest.raises(TypeError, match="slots"):
        data.dataclass(slots=False)
