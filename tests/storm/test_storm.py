"""The storm itself: a slope is what grows, and what has to be seen is seen."""

import asyncio
import random
import time

import pytest

from .clock import Clock, Loop
from .held import held
from .results import marks, table, write
from .slope import blocks, slope
from .storm import slopes

MINUTE = 12
HOUR = [float(5 * number) for number in range(60 * MINUTE)]


def noise(seed, size):
    chance = random.Random(seed)
    return [chance.gauss(0, size) for _ in HOUR]


@pytest.mark.parametrize("seed", range(20))
def test_what_grows_by_a_tenth_in_an_hour_is_seen_through_noise(seed):
    values = [100 + 10 * at / 3600 + each for at, each in zip(HOUR, noise(seed, 5), strict=True)]
    found = slope(HOUR, values)
    assert found.verdict == "GROWS"
    assert abs(found.per_hour - 10) < 4 * found.error
    assert found.mean == pytest.approx(105, abs=1)


def test_noise_alone_is_flat_nearly_always():
    found = [slope(HOUR, [100 + each for each in noise(seed, 5)]) for seed in range(100)]
    assert sum(each.verdict == "GROWS" for each in found) <= 2
    assert sum(abs(each.per_hour) > 2 * each.error for each in found) <= 15


def test_what_wanders_has_a_larger_error_than_what_jumps_about():
    still, wanders = noise(1, 1), []
    for each in still:
        wanders.append(each + (wanders[-1] * 0.99 if wanders else 0.0))
    assert slope(HOUR, wanders).error > 5 * slope(HOUR, still).error


def test_the_same_value_for_ever_is_flat_and_what_falls_does_not_grow():
    assert slope(HOUR, [7.0] * len(HOUR)).verdict == "flat: 0 is within the error"
    assert slope(HOUR, [100 - at for at in HOUR]).verdict == "falls"
    little = [100 + at / 3600 + each for at, each in zip(HOUR, noise(3, 0.1), strict=True)]
    assert slope(HOUR, little).verdict == "flat: below 5% an hour"


def test_two_points_make_no_slope():
    with pytest.raises(ValueError, match="three blocks"):
        slope([0.0, 61.0], [1.0, 2.0])


def test_samples_are_averaged_by_the_minute():
    assert blocks([0.0, 30.0, 60.0, 90.0], [1.0, 3.0, 5.0, 7.0]) == ([15.0, 75.0], [2.0, 6.0])


def test_the_cost_of_an_end_is_that_of_the_ends_of_a_minute():
    samples = [{"at": at, "ends": at * 2, "CPU": at * 6, "descriptors": 9.0} for at in HOUR]
    found = slopes(samples)
    assert found["CPU of an end, ms"]["mean"] == pytest.approx(3)
    assert set(found) == {"descriptors", "CPU of an end, ms"}


def test_a_run_takes_the_place_of_the_one_before(tmp_path):
    about = dict.fromkeys(("commit", "kernel", "systemd", "Python", "user"), "x") | {"seed": "7"}
    line = {"mean": 1234.5, "per_hour": 0.123, "error": 2.5, "verdict": "flat"}
    harms = {"innocent": 0, "lost": 0}
    summary = {"about": about, "minutes": 30.0, "warm": 120.0, "ends": 5, "harms": harms,
               "slopes": {"heap, KiB": line}}  # fmt: skip
    begin, end = marks("storm")
    page = tmp_path / "page.md"
    page.write_text(f"a\n{begin}\nold\n{end}\nb\n")
    write(page, "storm", summary)
    assert page.read_text() == f"a\n{begin}\n{table('storm', summary)}\n{end}\nb\n"
    assert "| heap, KiB | 1234 | 0.12 | 2.5 | flat |" in page.read_text()
    assert "`make storm MINUTES=30 SEED=7`: commit x" in page.read_text()
    short = table("storm", summary | {"warm": 60.0})
    assert "`make storm MINUTES=30 SEED=7 STORM_ARGS='--warm 60'`" in short
    with pytest.raises(ValueError, match="has no"):
        write(page, "day", summary | {"hours": 24.0})


def test_a_day_passes_as_soon_as_nothing_is_left_to_do():
    clock, began = Clock(), time.monotonic()
    before = time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    async def main():
        loop = asyncio.get_running_loop()
        await asyncio.sleep(86_400)
        passed = time.time_ns() - before[0], time.clock_gettime_ns(time.CLOCK_BOOTTIME) - before[1]
        await asyncio.to_thread(lambda: None)
        return passed, loop.selector.wakes

    with asyncio.Runner(loop_factory=lambda: Loop(clock)) as runner, clock.everywhere():
        passed, wakes = runner.run(main())
    assert time.monotonic() - began < 60
    assert all(each >= 86_400e9 for each in passed)
    assert wakes <= 2


def test_all_that_an_object_holds_is_counted_by_where_it_is():
    from scopekeeper.keeper.faults import Faults

    faults = Faults()
    faults._logged |= {"one", "two"}
    faults.more = {"key": [1, 2, 3]}
    assert held(faults) == {"Faults._logged": 2, "Faults.more": 4}
