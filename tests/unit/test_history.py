"""The history keeps each end once, with the best that is known, whatever happens to its writer."""

import contextlib
import dataclasses
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.errors import HistoryError
from scopekeeper.history import recording
from scopekeeper.history.bounds import BOUNDS, Bounds
from scopekeeper.history.end import (
    ARGV_MAX,
    BETWEEN_LOOKS,
    MISSED,
    UNSEEN,
    UNTOLD,
    End,
    cut_argv,
    merged,
)
from scopekeeper.history.store import DAMAGED, FILE, HistoryStore
from scopekeeper.scope.reason import Cause, Reason, Stopper
from tests.unit.ends import NOW, an_end, member

ROOT = Path(__file__).parents[2]
TEXT = st.text(st.characters())
NAME = st.text(
    st.characters(blacklist_categories=["Cs"], whitelist_characters=["\udc80", "\udced", "\udcff"])
)
"""What a launch lets through: text, and bytes that are none as Python has them."""
NUMBER = st.none() | st.integers(0, 2**62)
STOPPERS = st.none() | st.builds(Stopper, st.integers(0, 2**31), st.integers(0, 2**32), TEXT)
ENDS = st.builds(
    End,
    member_id=st.from_regex("[0-9a-f]{8}", fullmatch=True),
    started=st.integers(0, NOW),
    ended=st.integers(NOW - 10**6, NOW),
    session=TEXT,
    lane=TEXT,
    name=NAME,
    reason=st.sampled_from(Reason),
    evidence=TEXT,
    session_id=TEXT,
    run=TEXT,
    kind=TEXT,
    lifetime=TEXT,
    unit=TEXT,
    pid=NUMBER,
    argv=st.lists(TEXT).map(tuple),
    owner=TEXT,
    boot_id=TEXT,
    exit_status=NUMBER,
    signal=NUMBER,
    memory_peak=NUMBER,
    cpu_usec=NUMBER,
    oom_kills=NUMBER,
    processes=NUMBER,
    killed=st.integers(0, 10**6),
    seen=st.booleans(),
    stopper=STOPPERS,
).filter(lambda end: end.processes is None or end.killed <= end.processes)


def child(folder, body, **how):
    """Run Python in a process of its own, with a store and an end at hand."""
    program = f"""
import os, signal, sys
sys.path[:0] = [{str(ROOT)!r}]
from pathlib import Path
from scopekeeper.history import recording
from scopekeeper.history.store import HistoryStore
from tests.unit import ends
from tests.unit.ends import an_end, member
ends.NOW = {NOW}
folder = Path({str(folder)!r})
def killed_at(step):
    return lambda name: os.kill(os.getpid(), signal.SIGKILL) if name == step else None
{body}
"""
    return subprocess.Popen([sys.executable, "-c", program], **how)


@given(ENDS)
def test_every_text_and_number_comes_back(tmp_path_factory, end):
    store = HistoryStore(tmp_path_factory.mktemp("history"))
    assert store.write([end]) == ([end], "")
    assert store.read() == [end]
    assert end in store.read(about=end.session)
    assert store.read(session=end.session, reasons=[end.reason]) == [end]


@pytest.mark.parametrize(
    ("known", "shown"),
    [
        ({"reason": Reason.OWNER_GONE, "evidence": "process 7 has ended (exit status 0)",
          "exit_status": 0}, {"evidence": "process 7 has ended"}),
        ({"reason": Reason.REBOOT, "evidence": "the machine was going down (killed by SIGTERM)",
          "signal": 15}, {"evidence": "the machine was going down"}),
        ({"reason": Reason.STOPPED, "evidence": "asked for by a (pid 7, uid 8) (killed by SIGKILL)",
          "signal": 9, "stopper": Stopper(7, 8, "a")},
         {"evidence": "asked for by a (pid 7, uid 8)"}),
        ({"reason": Reason.STOPPED, "evidence": "asked for by a (pid 7, uid 8): x (exit status 0)",
          "exit_status": 0, "stopper": Stopper(7, 8, "a")}, {}),
        ({"reason": Reason.SIGNALLED, "evidence": "its record says ttl (killed by SIGTERM)",
          "signal": 15}, {}),
        ({"processes": 1, "killed": 7}, {"processes": 7}),
    ],
)  # fmt: skip
def test_a_row_of_an_earlier_version_is_put_right_when_it_is_read(tmp_path, known, shown):
    HistoryStore(tmp_path).write([an_end(**known)])
    assert HistoryStore(tmp_path).read() == [an_end(**(known | shown))]


@pytest.mark.parametrize("first", ["the keeper", "the stop"])
def test_two_reports_of_one_end_never_have_more_killed_than_processes(tmp_path, first):
    seen = an_end(reason=Reason.OWNER_GONE, processes=1, exit_status=0)
    counted = an_end(reason=Reason.OWNER_GONE, processes=7, killed=6)
    store = HistoryStore(tmp_path)
    for end in (seen, counted) if first == "the keeper" else (counted, seen):
        store.write([end])
    (end,) = store.read()
    assert (end.processes, end.killed, end.exit_status) == (7, 6, 0)


@pytest.mark.parametrize("name", ["a b", "a%20b?mode=memory#c", "\udcff"])
def test_a_folder_may_have_any_name(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    HistoryStore(folder).write([an_end()])
    assert HistoryStore(folder).read() == [an_end()]
    assert (folder / FILE).stat().st_size


def test_only_its_user_can_look_into_it(tmp_path):
    before = os.umask(0)
    try:
        HistoryStore(tmp_path).write([an_end()])
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_an_unknown_reason_gives_way_and_a_known_one_stays(tmp_path):
    store = HistoryStore(tmp_path)
    unknown = an_end(cpu_usec=7)
    stopped = an_end(reason=Reason.STOPPED, evidence="asked", processes=3)
    signalled = an_end(reason=Reason.SIGNALLED, signal=15, evidence="pidfd")
    assert store.write([unknown]) == ([unknown], "")
    (told,), _ = store.write([stopped])
    assert (told.reason, told.cpu_usec) == (Reason.STOPPED, 7) or told == stopped
    for worse in (unknown, signalled, unknown):
        assert store.write([worse]) == ([], "")
    (kept,) = store.read()
    assert (kept.reason, kept.evidence, kept.processes) == (Reason.STOPPED, "asked", 3)
    assert (kept.cpu_usec, kept.signal) == (7, 15), "what was missing is filled in"


def test_of_an_unknown_reason_all_is_kept_that_anybody_knows(tmp_path):
    store = HistoryStore(tmp_path)
    vague = [an_end(evidence=words, owner="gateway.service") for words in (MISSED, UNSEEN, UNTOLD)]
    knowing = an_end(evidence=f"{UNTOLD}; its terminal is lost")
    for end in (*vague, knowing, *vague, an_end(evidence="something else")):
        store.write([end])
    (kept,) = store.read()
    assert kept == dataclasses.replace(vague[0], evidence=knowing.evidence)


@given(ENDS, ENDS)
def test_merging_never_loses_a_reason(one, two):
    two = dataclasses.replace(two, member_id=one.member_id, started=one.started)
    best = merged(one, two)
    if one.reason is not Reason.UNKNOWN:
        assert (best.reason, best.evidence) == (one.reason, one.evidence)
    else:
        assert best.reason is two.reason
    assert merged(best, two) == best
    assert merged(best, one) == best


def test_each_life_of_a_name_has_its_own_row(tmp_path):
    store = HistoryStore(tmp_path)
    words = ["timeout", "timeout", "no such file: mcp.json"]
    for number, text in enumerate(words):
        end = an_end(member(number), ended=NOW + number, reason=Reason.EXITED, exit_status=1)
        store.write([dataclasses.replace(end, evidence=text)])
    assert [end.evidence for end in store.read(about="git")] == words


def test_what_is_asked_for_is_what_is_given(tmp_path):
    store = HistoryStore(tmp_path)
    one = an_end(member(1), ended=NOW - 2, session_id="life", unit="scopekeeper-s-main.scope")
    two = an_end(member(2), ended=NOW - 1, session="other", reason=Reason.TTL)
    store.write([two, one])
    for about in ("s", "life", "scopekeeper-s-main", "scopekeeper-s-main.scope", member(1)):
        assert store.read(about=about) == [one], about
    assert store.read(about="git") == [one, two]
    assert store.read(about="nothing") == []
    assert store.read(session="other") == store.read(reasons=[Reason.TTL]) == [two]
    assert store.read(since=NOW - 1) == store.read(limit=1) == [two]


def test_many_members_are_found_by_their_id_and_start_and_by_the_index(tmp_path):
    store = HistoryStore(tmp_path)
    store.write([an_end(member(number), name=f"n{number}") for number in range(50)])
    store.write([an_end(member(7), started=2, name="another life")])
    wanted = [(member(7), 1), (member(7), 2), (member(8), 2), ("no such", 1), (member(9), 2**70)]
    found = store.find(wanted)
    assert {key: end.name for key, end in found.items()} == {
        (member(7), 1): "n7", (member(7), 2): "another life"
    }  # fmt: skip
    assert HistoryStore(tmp_path / "none").find(wanted) == {}
    query = "SELECT * FROM ends WHERE member_id = CAST(? AS TEXT) AND started = ?"
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {query}", (b"x", 1)).fetchall()
    assert "USING INDEX" in str(plan), plan


def test_why_it_was_ended_is_told_of_each_member_that_was_stopped(state):
    one, two, three = (an_end(member(number)) for number in range(3))
    recording.record([dataclasses.replace(one, reason=Reason.STOPPED, evidence="no more"), two])
    assert recording.causes_of([three, two, one]) == [None, None, Cause(Reason.STOPPED, "no more")]
    Path(state, FILE).write_bytes(b"no database" * 1000)
    assert recording.causes_of([one]) == [None]


def test_it_is_bounded_by_rows_and_by_age(tmp_path):
    store = HistoryStore(tmp_path, limits=Bounds(rows=10))
    for number in range(25):
        store.write([an_end(member(number), ended=NOW + number)])
    assert [end.member_id for end in store.read()] == [member(n) for n in range(15, 25)]
    store.write([an_end("ffffffff", ended=NOW - BOUNDS.age - 60_000_000)])
    assert "ffffffff" not in [end.member_id for end in store.read()]


def test_a_clock_that_is_far_ahead_for_a_moment_costs_no_history(tmp_path, monkeypatch):
    store = HistoryStore(tmp_path)
    store.write([an_end(member(number), ended=NOW + number) for number in range(300)])
    with monkeypatch.context() as ahead:
        ahead.setattr(time, "time_ns", lambda: (NOW + 2 * BOUNDS.age) * 1000)
        store.write([an_end("ffffffff", ended=NOW + 2 * BOUNDS.age)])
    store.write([an_end("eeeeeeee", ended=NOW + 1000)])
    assert len(store.read()) >= 280


def test_many_ends_at_once_are_bounded_too(tmp_path):
    store = HistoryStore(tmp_path, limits=Bounds(rows=10))
    store.write([an_end(member(number)) for number in range(300)])
    assert len(store.read()) == 10


def test_a_command_line_is_cut_where_it_is_too_long():
    assert cut_argv(["a", "b"]) == ("a", "b")
    kept = cut_argv(["x" * 5000] * 5)
    assert sum(map(len, kept)) <= ARGV_MAX + 1
    assert kept[-1].endswith("…")


def test_numbers_that_no_machine_has_do_no_harm(tmp_path):
    end = an_end(started=10**30, pid=-(10**30))
    assert HistoryStore(tmp_path).write([end, end])[1] == ""
    (kept,) = HistoryStore(tmp_path).read()
    assert (kept.started, kept.pid) == (2**63 - 1, -(2**63))


def test_no_history_is_an_empty_one(tmp_path):
    assert HistoryStore(tmp_path / "nothing").read() == []
    assert not (tmp_path / "nothing").exists()


def test_writers_at_once_lose_nothing(tmp_path):
    # a keeper tries again what waited too long for the others; here nothing is given up
    body = """
import scopekeeper.history.store
scopekeeper.history.store.PATIENCE = 60
for n in range(20): assert not HistoryStore(folder).write([an_end(member(BASE + n))])[1]
"""
    writers = [child(tmp_path, body.replace("BASE", str(100 * w))) for w in range(5)]
    assert [writer.wait() for writer in writers] == [0] * 5
    assert len(HistoryStore(tmp_path).read()) == 100


def test_the_same_end_told_by_many_at_once_is_one_row(tmp_path):
    # they wait for each other, however little of a processor each gets
    body = "import scopekeeper.history.store as store; store.PATIENCE = 60; "
    body += "[HistoryStore(folder).write([an_end(member(n))]) for n in range(20)]"
    writers = [child(tmp_path, body) for _ in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    assert len(HistoryStore(tmp_path).read()) == 20


def test_a_writer_that_hangs_is_not_waited_for(tmp_path):
    step = "lambda name: (print(name, flush=True), signal.pause())"
    body = f"HistoryStore(folder, step={step}).write([an_end()])"
    hanging = child(tmp_path, body, stdout=subprocess.PIPE)
    assert hanging.stdout.readline() == b"open\n"
    with pytest.raises(HistoryError, match="locked"):
        HistoryStore(tmp_path).write([an_end()])
    hanging.kill()
    hanging.wait()
    hanging.stdout.close()
    assert HistoryStore(tmp_path).write([an_end()])[1] == ""


STEPS = ("open", "prepare", "begin", "insert", "prune", "commit", "close")


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_of_a_write_it_is_whole(tmp_path, step, begun):
    old, new, next_ = an_end(member(1)), an_end(member(2)), an_end(member(3))
    if begun:
        HistoryStore(tmp_path).write([old])
    body = f"HistoryStore(folder, step=killed_at({step!r})).write([an_end(member(2))])"
    killed = child(tmp_path, body)
    assert killed.wait() == -signal.SIGKILL
    before = [old] if begun else []
    after = [*before, new] if step == "close" else before
    assert HistoryStore(tmp_path).read() == after
    assert HistoryStore(tmp_path).write([next_]) == ([next_], "")
    assert HistoryStore(tmp_path).read() == [*after, next_]


@pytest.mark.parametrize("content", [b"", b"not a database at all" * 500, os.urandom(4096)])
def test_a_damaged_file_is_moved_aside_and_that_is_said(tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    told, problem = HistoryStore(tmp_path).write([an_end()])
    assert told == [an_end()]
    assert HistoryStore(tmp_path).read() == [an_end()]
    if content:
        assert str(tmp_path / DAMAGED) in problem
        assert (tmp_path / DAMAGED).read_bytes() == content


def torn(folder):
    """Make a history whose pages are overwritten."""
    HistoryStore(folder).write([an_end(member(n), evidence="x" * 900) for n in range(40)])
    size = (folder / FILE).stat().st_size
    with (folder / FILE).open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))


def test_damaged_pages_are_found_and_moved_aside(tmp_path):
    torn(tmp_path)
    with pytest.raises(HistoryError, match=r"damaged.*mv "):
        HistoryStore(tmp_path).read()
    assert "damaged" in HistoryStore(tmp_path).write([an_end()])[1]
    assert HistoryStore(tmp_path).read() == [an_end()]


@pytest.mark.parametrize("step", ["move-wal", "move-shm", "move"])
def test_killed_while_a_damaged_file_is_moved_the_next_begins_anew(tmp_path, step):
    torn(tmp_path)
    killed = child(tmp_path, f"HistoryStore(folder, step=killed_at({step!r})).write([an_end()])")
    assert killed.wait() == -signal.SIGKILL
    told, problem = HistoryStore(tmp_path).write([an_end()])
    assert told
    assert "damaged" in problem
    assert HistoryStore(tmp_path).read() == [an_end()]
    assert not [path.name for path in tmp_path.iterdir() if path.name == FILE + "-journal"]


def test_that_of_a_newer_version_is_left_alone(tmp_path):
    HistoryStore(tmp_path).write([an_end()])
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("PRAGMA user_version = 7")
    connection.close()
    for use in (
        lambda: HistoryStore(tmp_path).write([an_end(member(2))]),
        HistoryStore(tmp_path).read,
    ):
        with pytest.raises(HistoryError, match="version 7"):
            use()


def test_that_of_an_older_version_is_taken_over(tmp_path):
    store = HistoryStore(tmp_path)
    store.write([an_end()])
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as older:
        older.executescript("DROP TABLE living; PRAGMA user_version = 1")
    assert store.read() == [an_end()]
    assert store.living() == []
    store.write([], [an_end(member(2))])
    assert store.living() == [an_end(member(2))]
    assert store.read() == [an_end()]


def test_who_began_is_known_until_his_end_is_told(tmp_path):
    store = HistoryStore(tmp_path)
    assert store.living() == []
    store.write([], [an_end(member(1)), an_end(member(2))])
    store.write([], [an_end(member(2), argv=("known", "later"))])
    assert store.living() == [an_end(member(1)), an_end(member(2), argv=("known", "later"))]
    assert store.read() == []
    store.write([an_end(member(1))])
    assert [each.member_id for each in store.living()] == [member(2)]


def test_who_is_missing_ended_unseen_or_with_the_machine(state):
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    there, elsewhere, missing = (an_end(member(n), boot_id=boot) for n in (1, 2, 3))
    before = an_end(member(4), boot_id="another")
    recording.keep([], [there, elsewhere, missing, before])
    ends, problem = recording.missed([there.leaf, before.leaf], lambda end: end == elsewhere)
    assert problem == ""
    assert [(end.member_id, end.reason) for end in ends] == [
        (missing.member_id, Reason.UNKNOWN), (before.member_id, Reason.REBOOT),
    ]  # fmt: skip
    assert not any(end.seen for end in ends)
    recording.keep(ends)
    assert recording.missed([there.leaf], lambda end: end == elsewhere) == ([], "")
    assert [end.reason for end in HistoryStore(state).read()] == [Reason.UNKNOWN, Reason.REBOOT]


def test_a_reason_of_a_newer_version_is_unknown_here(tmp_path):
    HistoryStore(tmp_path).write([an_end()])
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("UPDATE ends SET reason = 'abducted'")
    connection.close()
    assert HistoryStore(tmp_path).read()[0].reason is Reason.UNKNOWN


@pytest.fixture
def state(tmp_path, monkeypatch):
    """A state directory of the test's own."""
    folder = tmp_path / "state"
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(folder))
    return folder


def test_it_is_recorded_in_the_state_directory(state):
    assert recording.record([an_end()]) == ""
    assert HistoryStore(state).read() == [an_end()]
    assert state.stat().st_mode & 0o777 == 0o700


def test_where_no_folder_can_be_made_that_is_said_in_one_line(state, monkeypatch):
    state.write_text("in the way")
    for path in (str(state), f"{state}/below", "not/absolute"):
        monkeypatch.setenv("SCOPEKEEPER_STATE", path)
        problem = recording.record([an_end()])
        assert problem.startswith("the history was not written: ")
        assert "\n" not in problem


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_said_and_can_still_be_read(state):
    assert recording.record([an_end()]) == ""
    state.chmod(0o500)
    try:
        for path in state.iterdir():
            path.chmod(0o400)
        assert "not written" in recording.record([an_end(member(2))])
        state.chmod(0o500)
        assert HistoryStore(state).read() == [an_end()]
    finally:
        state.chmod(0o700)


@pytest.mark.parametrize("size", [0, 4096, 20_000])
def test_a_disk_without_room_is_said_and_does_no_harm(state, size):
    """A limit on the size of files stands for the disk's end; the lab has a real one."""
    recording.record([an_end(member(n)) for n in range(20)])
    before = HistoryStore(state).read()

    def small():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    ends = "[an_end(member(n), evidence='x' * 2000) for n in range(90, 120)]"
    body = f"print(recording.record({ends}))"
    writer = child(state, body, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=small)
    said, wrong = writer.communicate()
    assert (writer.returncode, wrong) == (0, b"")
    assert said.startswith(b"the history was not written: ")
    assert said.count(b"\n") == 1
    assert HistoryStore(state).read() == before
    assert recording.record([an_end("ffffffff")]) == ""


@given(st.sampled_from(Reason), TEXT, STOPPERS)
def test_a_cause_says_what_it_was_given_and_no_more(reason, text, stopper):
    evidence = Cause(reason, text, stopper).evidence
    assert text in evidence
    assert ("asked for by" in evidence) >= (reason is Reason.STOPPED and stopper is not None)


def test_a_later_look_at_the_owner_changes_no_evidence():
    known = an_end(reason=Reason.UNKNOWN, evidence=BETWEEN_LOOKS, seen=False)
    later = dataclasses.replace(known, evidence=f"{BETWEEN_LOOKS}, and so did its owner: x")
    assert merged(known, later).evidence == BETWEEN_LOOKS
    other = dataclasses.replace(known, evidence="something that was seen")
    assert merged(known, other).evidence == "something that was seen"


def test_an_empty_history_is_removed_and_no_other(tmp_path):
    history = HistoryStore(tmp_path)
    history.remove_if_empty()
    history.write([], [])
    assert history.path.exists()
    history.remove_if_empty()
    assert not [*tmp_path.iterdir()]
    history.write([], [an_end()])
    history.remove_if_empty()
    assert history.living()
    history.write([an_end()])
    history.remove_if_empty()
    assert history.read() == [an_end()]


# How many there were


def test_ends_are_counted_beyond_the_rows_that_are_kept(tmp_path):
    store = HistoryStore(tmp_path, limits=Bounds(rows=3))
    for number in range(7):
        store.write([an_end(member(number), reason=Reason.EXITED, unit=f"u{number}")])
    store.write([an_end(member(6), reason=Reason.EXITED, unit="u6")])  # reported again
    assert len(store.read()) == 3
    counted = store.totals()
    assert counted == dict.fromkeys(Reason, 0) | {Reason.EXITED: 7}
    assert HistoryStore(tmp_path).totals() == counted


def test_an_end_that_is_explained_later_counts_for_both(tmp_path):
    store = HistoryStore(tmp_path)
    store.write([an_end()])
    store.write([an_end(reason=Reason.OOM_KILLED)])
    counted = store.totals()
    assert (counted[Reason.UNKNOWN], counted[Reason.OOM_KILLED], sum(counted.values())) == (1, 1, 2)


def test_ends_of_an_earlier_version_are_counted_from_its_rows(tmp_path):
    store = HistoryStore(tmp_path)
    store.write([an_end(member(number), reason=Reason.TTL) for number in range(4)])
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as connection:
        connection.execute("DROP TABLE totals")
        connection.commit()
    assert store.totals()[Reason.TTL] == 4
    store.write([an_end(member(9), reason=Reason.TTL)])
    assert store.totals()[Reason.TTL] == 5


def test_a_history_that_is_not_there_has_no_ends_and_one_that_is_damaged_says_so(tmp_path):
    assert set(HistoryStore(tmp_path).totals().values()) == {0}
    store = HistoryStore(tmp_path)
    store.write([an_end()])
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as connection:
        connection.execute("UPDATE totals SET ends = 'many'")
        connection.commit()
    with pytest.raises(HistoryError, match="damaged"):
        store.totals()
