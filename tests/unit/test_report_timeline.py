"""The timeline of `report`: nothing is lost, nothing overlaps, and the shapes are bounded."""

from collections import Counter
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.report import timeline
from scopekeeper.report.drawing import timeline as drawn_as
from scopekeeper.report.model import REASONS, RUNNING, Life, Report
from scopekeeper.report.sums import by_session, lasted, most_cpu, most_memory
from scopekeeper.report.timeline import CELL, MOST_ROWS, MOST_TRACKS, WIDTH, axis

NOW = datetime(2026, 1, 31, 14, 30, tzinfo=UTC).timestamp()
DAY = axis(NOW - 86400, NOW, 0)
ENDED = [each for each in REASONS if each != RUNNING]


def life(started, ended, reason="exited", unit="a.scope", **how):
    """Return a life; times are in seconds before now, None is now."""
    known = {"session": "s", "lane": "main", "member": "git"}
    return Life(
        unit=unit, reason=reason, started=started if started is None else NOW - started,
        ended=ended if ended is None else NOW - ended, **(known | how),
    )  # fmt: skip


def laid(*lives, on=DAY):
    return timeline.timeline(lives, on, NOW)


MOMENT = st.integers(-1000, 100_000)
LIVES = st.lists(
    st.builds(
        life, st.none() | MOMENT, st.none() | MOMENT, st.sampled_from(ENDED),
        unit=st.sampled_from("abcde"), session=st.sampled_from("st"), lane=st.sampled_from("mn"),
    ).map(lambda x: x if x.ended is not None else life(5, None, RUNNING, x.unit,
                                                       session=x.session, lane=x.lane)),
    max_size=60,
)  # fmt: skip


@given(LIVES)
def test_every_life_is_counted_and_every_scope_is_drawn_or_counted(lives):
    found = laid(*lives)
    assert sum(each.lives for each in found.tracks) == len(lives)
    keys = [(each.session, each.lane) for each in found.tracks]
    assert sorted(keys) == sorted({(each.session, each.lane) for each in lives})
    sessions = [session for session, _ in keys]
    assert sessions == sorted(sessions, key=sessions.index), "lanes of one session are together"
    for track in found.tracks:
        mine = [x for x in lives if (x.session, x.lane) == (track.session, track.lane)]
        units = [[x for x in mine if x.unit == unit] for unit in {x.unit for x in mine}]
        scopes = [each for unit in units for each in timeline._scopes(unit, NOW)]
        assert sum(map(len, scopes)) == len(mine)
        drawn = sum(map(len, track.rows)) + sum(each.total() for each in track.cells.values())
        assert drawn + track.undrawn == len(scopes)


@given(LIVES)
def test_bars_of_a_row_do_not_overlap_and_lie_on_the_axis(lives):
    for track in laid(*lives).tracks:
        assert len(track.rows) <= MOST_ROWS
        assert all(0 <= cell < WIDTH // CELL for cell in track.cells)
        for row in track.rows:
            right = 0.0
            for bar in row:
                assert right <= bar.left <= bar.right - CELL
                right = bar.right
                assert all(0 <= mark.at <= WIDTH for mark in bar.marks)
            assert right <= WIDTH


def test_a_scope_has_the_reason_of_its_last_end_and_a_mark_for_the_others():
    (track,) = laid(
        life(7200, 5400, "oom-killed", member="a"), life(7200, 3601, "stopped by request"),
        life(7190, 3600, "stopped by request", member="b"), life(7000, 3600, "exited", member="c"),
    ).tracks  # fmt: skip
    ((bar,),) = track.rows
    assert (bar.started, bar.ended) == (NOW - 7200, NOW - 3600)
    assert bar.reason == "stopped by request"
    assert bar.reasons == Counter({"stopped by request": 2, "oom-killed": 1, "exited": 1})
    assert [(mark.reason, mark.number) for mark in bar.marks] == [("oom-killed", 1), ("exited", 1)]


def test_of_reasons_as_frequent_the_worse_one_is_shown():
    for reasons in (("exited", "oom-killed"), ("oom-killed", "exited")):
        (track,) = laid(*(life(7200, 3600, each) for each in reasons)).tracks
        assert track.rows[0][0].reason == "oom-killed"


def test_a_scope_in_which_one_runs_runs_and_the_next_life_of_a_unit_is_another_bar():
    (track,) = laid(
        life(50_000, 40_000, "ttl"), life(20_000, None, RUNNING), life(19_000, 9_000, "signalled")
    ).tracks
    ((first, second),) = track.rows
    assert (first.reason, second.reason, second.ended) == ("ttl", RUNNING, None)
    assert [mark.reason for mark in second.marks] == ["signalled"]


def test_short_scopes_share_a_cell_with_a_count_for_each_reason():
    lives = [life(3600, 3599, reason, unit=f"{at}.scope")
             for at, reason in enumerate(["exited"] * 5 + ["signalled"] * 2)]  # fmt: skip
    (track,) = laid(*lives).tracks
    assert track.rows == ()
    assert list(track.cells.values()) == [Counter(exited=5, signalled=2)]


def test_more_scopes_at_once_than_rows_are_counted():
    lives = [life(7200, 3600, unit=f"{at}.scope") for at in range(MOST_ROWS + 4)]
    (track,) = laid(*lives).tracks
    assert (len(track.rows), track.undrawn) == (MOST_ROWS, 4)
    report = Report("host", NOW - 86400, NOW, "1", tuple(lives), zone=UTC)
    assert "4 more scopes at the same time" in drawn_as(report, laid(*lives))


def test_the_tracks_that_were_active_last_are_drawn_and_the_others_counted():
    lives = [life(9000, 10 * at, session=f"s{at:03}") for at in range(MOST_TRACKS + 7)]
    found = laid(*lives)
    assert (len(found.tracks), found.more_tracks, found.more_lives) == (MOST_TRACKS, 7, 7)
    assert {each.session for each in found.tracks} == {f"s{at:03}" for at in range(MOST_TRACKS)}


@pytest.mark.parametrize("spread", [1, 1000])
def test_the_number_of_shapes_does_not_grow_with_the_ends(spread):
    lives = [
        life(80_000 - at, 79_000 - at - at % 3000, ENDED[at % len(ENDED)], unit=f"{at % spread}")
        for at in range(20_000)
    ]
    report = Report("host", NOW - 86400, NOW, "1", tuple(lives), zone=UTC)
    assert drawn_as(report, laid(*lives)).count("<rect") < 8_000


@given(st.floats(-1e9, 2e9), st.floats(0, 3e9), st.integers(-14, 14))
def test_an_axis_has_both_moments_in_at_most_eight_steps(begin, length, zone):
    found = axis(begin, begin + length, zone * 3600)
    assert 1 <= found.steps <= 8
    assert found.begin <= begin + 1e-3
    assert found.end >= begin + length - 1e-3
    assert found.begin + found.step >= begin - 1e-3


@pytest.mark.parametrize(
    ("hours", "step"), [(0.1, 60), (1, 600), (6, 3600), (24, 14400), (24 * 7, 86400)]
)
def test_its_steps_are_round_in_local_time(hours, step):
    local = timezone(timedelta(hours=5, minutes=30))
    found = axis(NOW - hours * 3600, NOW, local.utcoffset(None).total_seconds())
    first = datetime.fromtimestamp(found.begin, local)
    assert found.step == step
    assert (first.hour * 3600 + first.minute * 60 + first.second) % min(step, 86400) == 0


def test_sums_are_those_of_what_is_known():
    lives = [
        life(100, 40, cpu=2.0, memory_peak=5), life(100, 90, cpu=None, memory_peak=9),
        life(None, 90, cpu=1.0, session="t"), life(30, None, RUNNING, cpu=0.5),
    ]  # fmt: skip
    one, other = by_session(lives, NOW)
    assert (one.key, one.lives, one.cpu, one.cpu_unknown, one.memory_peak) == (
        ("", "", "s"),
        3,
        2.5,
        1,
        9,
    )
    assert one.time == 60 + 10 + 30
    assert (other.memory_peak, other.time, lasted(lives[2], NOW)) == (None, 0, None)
    assert most_cpu([other, one], 1) == [one]
    assert most_memory([other, one], 5) == [one]
