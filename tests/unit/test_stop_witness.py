"""The files in which stops keep their causes: bounded, however many stops there are."""

import os
import time

import pytest

from scopekeeper.lifecycle import stop_witness


def written(folder, number, seconds_ago):
    path = folder / str(number)
    path.write_text("x")
    at = time.time() - seconds_ago
    os.utime(path, (at, at))
    return path


@pytest.mark.parametrize("count", [1500, 3000])
def test_of_many_stops_the_newest_thousand_are_kept(tmp_path, count):
    for number in range(count):
        written(tmp_path, number, 100 + number)
    stop_witness.tidy(str(tmp_path))
    assert {int(each.name) for each in tmp_path.iterdir()} == set(range(1000))


def test_a_cause_that_is_about_to_be_read_stays_however_many_stops_follow(tmp_path):
    for number in range(1500):
        written(tmp_path, number, 5)
    stop_witness.tidy(str(tmp_path))
    assert len(list(tmp_path.iterdir())) == 1500


def test_after_an_hour_none_is_kept(tmp_path):
    old, new = written(tmp_path, 1, 3700), written(tmp_path, 2, 3500)
    stop_witness.tidy(str(tmp_path))
    assert not old.exists()
    assert new.exists()


def test_without_the_folder_nothing_happens(tmp_path):
    stop_witness.tidy(str(tmp_path / "missing"))
