"""What a launch does about an empty scope that does not go away."""

import time

from scopekeeper.errors import ManagerError
from scopekeeper.launch import waiting
from scopekeeper.scope.placement import Place
from scopekeeper.systemd import calls

EMPTY_FOR = 10.0


def patience(directory, place, life):
    """Return the patience of a launch that found the scope empty all the while."""
    known = waiting.Patience(directory)
    known._life, known._empty_since = life, time.monotonic() - EMPTY_FOR
    return known


def test_systemd_is_asked_to_let_go_of_that_life_and_a_refusal_is_no_error(tmp_path, monkeypatch):
    asked = []

    def let_go(*arguments):
        asked.append(arguments)
        raise ManagerError("it is away")

    monkeypatch.setattr(calls, "let_go", let_go)
    place = Place(str(tmp_path), f"{tmp_path}/scopekeeper.slice", "user", "")
    known = patience("/there", place, (7, "an invocation"))
    known.have_it_removed(place)
    known.have_it_removed(place)  # too early to ask again
    assert asked == [("user", "an invocation", "/there")]


def test_a_scope_that_has_just_become_empty_is_left_to_systemd(tmp_path, monkeypatch):
    monkeypatch.setattr(calls, "let_go", None)
    place = Place(str(tmp_path), f"{tmp_path}/scopekeeper.slice", "user", "")
    known = patience("/there", place, (7, "an invocation"))
    known._empty_since = time.monotonic()
    known.have_it_removed(place)
