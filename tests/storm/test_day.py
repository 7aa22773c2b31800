"""A short day of a keeper: whatever it took for an end, it has given back."""

import os

import pytest

from tests.machine import ROOT

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        not ROOT or "LAB_OUT" not in os.environ,
        reason="it keeps all scopes of the machine: only as root in the lab",
    ),
]


def test_a_thousand_ends_leave_nothing_in_a_keeper(tmp_path):
    from .day import live

    found = live(tmp_path, ends=1000, hours=1, seed=1, note=print, batch=100)
    assert found["wrong"] == []
    assert found["quiet"]["wake-ups of a quiet hour"] <= 12
    assert found["quiet"]["timers"] <= 8
    assert found["reasons"]["owner gone"] >= 100
    assert found["rows"] >= 1000
