"""Whether systemd has ended a scope after its ttl: by what the journal has, and by its moments."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.errors import UnavailableError
from scopekeeper.history import launch_ledger
from scopekeeper.lifecycle import member_lines, time_limit
from scopekeeper.lifecycle.time_limit import TimedOut, TimeLimit
from scopekeeper.systemd import journal_lines

UNIT = "scopekeeper-s-main.scope"
PATH = f"/user.slice/user-1000.slice/user@1000.service/scopekeeper.slice/{UNIT}"
LIMIT = TimeLimit(PATH, 2_000_000, 12_000_000)
LINE = {
    "SESSION": "s", "LANE": "main", "CGROUP": PATH, "NAME": "time", "PID": "7", "START": "1",
    "ID": "0a1b2c3d", "STARTED": "10000500", "BOOTTIME": "600", "SCOPE_BORN": "100",
    "TTL": "2000000",
}  # fmt: skip


def limit_of(**changes):
    (line,) = member_lines.parsed(launch_ledger.line(LINE | changes))
    return line.limit


def test_a_launch_leaves_when_the_time_of_its_scope_is_over():
    assert limit_of() == TimeLimit(PATH, 2_000_000, 12_000_000)


@pytest.mark.parametrize(
    "changes",
    [{"TTL": ""}, {"SCOPE_BORN": ""}, {"SCOPE_BORN": "x"}, {"SCOPE_BORN": "٣"},
     {"SCOPE_BORN": "9" * 19}, {"SCOPE_BORN": "-1"}, {"CGROUP": f"/c/{UNIT}"}],
)  # fmt: skip
def test_a_line_without_a_limit_of_systemd_has_none(changes):
    assert limit_of(**changes) is None


@pytest.mark.parametrize(
    ("moments", "next_", "is_proved"),
    [
        ([12_000_000], None, True),
        ([11_000_000], None, True),  # the clocks of systemd and of the record differ a little
        ([10_999_999], None, False),  # a stop that took too long
        ([17_000_000], None, True),  # it had a grace
        ([17_000_000], 16_000_000, False),  # a later scope of that name
        ([12_000_000, 17_000_000], 16_000_000, True),
        ([], None, False),
    ],
)
def test_the_moment_proves_which_scope_it_was(monkeypatch, moments, next_, is_proved):
    monkeypatch.setattr(time_limit, "_read", lambda _: {UNIT: moments})
    evidence = TimedOut().evidence(LIMIT, next_)
    assert evidence == ("systemd ended its scope after its 2 s" if is_proved else "")


def test_each_manager_is_asked_once_and_a_journal_that_is_missing_proves_nothing(monkeypatch):
    asked = []

    def read(kind):
        asked.append(kind)
        raise UnavailableError("journalctl is not installed here", "")

    monkeypatch.setattr(journal_lines, "timed_out", read)
    results = TimedOut()
    assert [results.evidence(LIMIT, None) for _ in range(3)] == [""] * 3
    assert asked == ["user"]


@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([
    b'{"USER_UNIT": "a.scope", "__REALTIME_TIMESTAMP": "7"}', b'{"USER_UNIT": "a.scope"}',
    b'{"USER_UNIT": [1, "a"], "__REALTIME_TIMESTAMP": "x"}', b"[]", b"7", b"null",
]))))  # fmt: skip
def test_any_lines_of_the_journal_are_read(raws):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal_lines, "_entries", lambda _: raws)
        found = journal_lines.timed_out("user")
    good = raws.count(b'{"USER_UNIT": "a.scope", "__REALTIME_TIMESTAMP": "7"}')
    assert found.get("a.scope", []) == [7] * good
