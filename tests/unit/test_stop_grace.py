"""How long a stop waits before it kills."""

import pytest

from scopekeeper.lifecycle import stop_target
from scopekeeper.scope.model import Scope
from scopekeeper.scope.selection import Selected


@pytest.mark.parametrize(
    ("recorded", "seconds"),
    [
        (None, stop_target.GRACE),
        (0, 0),
        (200_000, 0.2),
        (-5, 0),
        (10**15, stop_target.LONGEST_GRACE),
    ],
)
def test_a_record_can_ask_for_so_much_and_no_more(recorded, seconds):
    selected = Selected(Scope("u.scope", "/d", "/c", 0, "s", "main", grace=recorded))
    assert stop_target.target_of(selected).grace == seconds


def test_who_stops_can_wait_as_long_as_she_likes():
    selected = Selected(Scope("u.scope", "/d", "/c", 0, "s", "main", grace=10**15))
    assert stop_target.target_of(selected, 7200.0).grace == 7200
