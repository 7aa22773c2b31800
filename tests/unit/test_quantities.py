"""Durations, sizes and times as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopekeeper import quantities


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [("90s", 90_000_000), ("15m", 900_000_000), ("2h", 7_200_000_000), ("1h30m", 5_400_000_000),
     ("500ms", 500_000), ("0", 0), ("1.5", 1_500_000), ("2d", 172_800_000_000)],
)  # fmt: skip
def test_durations(text, microseconds):
    assert quantities.duration("ttl", text) == microseconds


@pytest.mark.parametrize(
    "text", ["", "x", "5x", "-1s", "1 h", "s", "1h30", "1e400", "9" * 40 + "h"]
)
def test_a_wrong_duration_names_the_option_and_the_remedy(text):
    with pytest.raises(ValueError, match=r"^--ttl: .*(write 90s|leave it out)"):
        quantities.duration("ttl", text)


@pytest.mark.parametrize(
    ("option", "text", "value"),
    [("memory_max", "512M", 512 << 20), ("memory_max", "1.5G", 3 << 29),
     ("memory_max", "4096", 4096),
     ("memory_max", "infinity", -1), ("memory_max", "2GiB", 2 << 30), ("tasks_max", "64", 64),
     ("tasks_max", "infinity", -1), ("cpu_weight", "100", 100)],
)  # fmt: skip
def test_limits(option, text, value):
    assert quantities.limit(option, text) == value


@pytest.mark.parametrize(
    ("option", "text"),
    [("memory_max", "-1"), ("memory_max", "0"), ("memory_max", "12X"), ("tasks_max", "0"),
     ("tasks_max", "-5"), ("tasks_max", "1.5"), ("cpu_weight", "10001"), ("cpu_weight", "0"),
     ("cpu_weight", "infinity"), ("tasks_max", "9" * 20)],
)  # fmt: skip
def test_a_wrong_limit_names_the_option(option, text):
    with pytest.raises(ValueError, match=f"^--{option.replace('_', '-')}: "):
        quantities.limit(option, text)


def test_a_limit_that_no_machine_has_is_called_too_large():
    with pytest.raises(ValueError, match=r"^--memory-max: .* is too large; leave it out"):
        quantities.limit("memory_max", "9" * 17 + "G")


@pytest.mark.parametrize(
    ("text", "written"),
    [("5s", "5s"), ("8000ms", "8s"), ("90m30s", "1h30m30s"), ("1d2h3m4s", "1d2h3m4s"),
     ("1500ms", "1.5s"), ("0", "0s"), ("60", "1m")],
)  # fmt: skip
def test_a_duration_is_written_as_a_person_writes_it(text, written):
    assert quantities.written_duration(quantities.duration("ttl", text)) == written


@given(st.integers(0, 10**15))
def test_a_written_duration_is_read_as_the_same(microseconds):
    text = quantities.written_duration(microseconds)
    assert quantities.duration("ttl", text) == microseconds


def test_moments():
    assert quantities.moment("started-before", "@12.5") == 12.5
    assert quantities.moment("started-before", "1970-01-01T00:01:00+00:00") == 60
    with pytest.raises(ValueError, match="--started-before: 'soon'"):
        quantities.moment("started-before", "soon")


@given(st.floats(0, 1e9))
def test_a_shown_duration_has_at_most_two_units(seconds):
    assert 1 <= sum(char.isalpha() for char in quantities.show_duration(seconds)) <= 2


def test_shown_sizes():
    assert [quantities.show_bytes(n) for n in (0, 1023, 1 << 20, 3 << 29, 12 << 30, 5 << 40)] == [
        "0B", "1023B", "1M", "1.5G", "12G", "5.0T",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2h", 1_000_000 - 7200), ("1m30s", 1_000_000 - 90), ("@5", 5.0), ("@0", 0.0)],
)
def test_since_takes_a_time_or_how_long_ago(text, seconds):
    assert quantities.since("since", text, 1_000_000.0) == seconds


@pytest.mark.parametrize("text", ["", "yesterday", "2 h", "h", "@", "-2h"])
def test_since_says_what_it_takes(text):
    with pytest.raises(ValueError, match="--since"):
        quantities.since("since", text, 0.0)


@pytest.mark.parametrize("text", ["@nan", "@inf", "@-inf", "@1e400", "@99999999999999", "@9e18"])
def test_a_time_beyond_the_calendar_is_none(text):
    with pytest.raises(ValueError, match="--since: "):
        quantities.since("since", text, 0.0)
    with pytest.raises(ValueError, match="--started-before: "):
        quantities.moment("started-before", text)
