"""A label is a second name of a session: typed and bounded, it selects as the session does."""

import dataclasses
import os
import sqlite3

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scopekeeper.history import launch_ledger, rows, session_label
from scopekeeper.history.end import merged
from scopekeeper.history.store import HistoryStore
from scopekeeper.lifecycle import label, label_lines, member_lines
from scopekeeper.scope import names, record_parser, records, resolve
from scopekeeper.scope.model import Identity, Liveness, Member, Owner, OwnerState, Scope, Snapshot
from scopekeeper.scope.selection import Selected, Selector, select
from tests.unit.ends import an_end, member

CHARACTERS = st.characters(blacklist_characters="\0", blacklist_categories=["Cs"])
NAMES = st.text(CHARACTERS, min_size=1, max_size=names.SESSION_MAX)
UNIT = names.unit_name("pid-257", "main")
SCOPE = {"SESSION": "pid-257", "LANE": "main"}


def a_member(name="time", member_id="00000001", pids=(7,), pid=257, liveness=Liveness.ALIVE):
    owner = Owner(pid=pid, start_time=1)
    return Member(name, member_id, f"/c/m-{name}.{member_id}", "/m", started=1, pids=pids,
                  leader_lives=bool(pids), owner_state=OwnerState(owner, liveness, ""))  # fmt: skip


A_MEMBER = a_member()


def a_scope(session="pid-257", members=(A_MEMBER,), **fields):
    return Scope(f"scopekeeper-{session}-main.scope", f"/c/{session}", "/c", 0, session, "main",
                 members=members, owner=Owner(pid=257), **fields)  # fmt: skip


@given(NAMES)
def test_a_record_keeps_any_name_that_a_session_can_have(name):
    assert label.check(name) == name
    raw = records.dumps({**SCOPE, "LABEL": name})
    assert record_parser.scope(raw, UNIT).label == name


@given(st.one_of(st.text(CHARACTERS, min_size=513, max_size=600), NAMES.map(lambda x: f"{x}\0")))
def test_a_label_that_no_session_can_have_is_refused_and_damages_a_record(name):
    with pytest.raises(ValueError, match="the label has"):
        label.check(name)
    with pytest.raises(records.RecordError):
        record_parser.scope(records.dumps({**SCOPE, "LABEL": name}), UNIT)


def test_an_empty_label_is_refused():
    with pytest.raises(ValueError, match="the label is empty"):
        label.check("")


@given(NAMES, NAMES, st.sampled_from(["main", "cron"]))
def test_a_label_selects_as_the_session_does(session, given_label, lane):
    scope = a_scope(session, label=given_label)
    for name in (session, given_label):
        found = select(Snapshot((scope,)), Selector(session=name, lane=lane))
        assert found == ([Selected(scope)] if lane == "main" else [])
        assert Selected(scope) in resolve.meanings(Snapshot((scope,)), name)[resolve.SESSION]
    neither = f"{session}{given_label}"
    assert not select(Snapshot((scope,)), Selector(session=neither))


def test_a_label_in_another_container_is_another_session():
    scope = a_scope(label="codex:1", elsewhere=True)
    assert not select(Snapshot((scope,)), Selector(session="codex:1"))
    assert not resolve.meanings(Snapshot((scope,)), "codex:1")


def test_no_label_is_no_name():
    scope = a_scope()
    assert not resolve.meanings(Snapshot((scope,)), "")
    assert scope.shown_session == "pid-257"
    assert a_scope(label="codex:1").shown_session == "codex:1"


@pytest.mark.parametrize(
    ("scope", "words"),
    [
        (a_scope(problem="the record is damaged: x", damaged=True), "damaged"),
        (a_scope(problem="it has no record of ours", unrecorded=True), "no record"),
        (a_scope(claims=Identity("other", "main")), "its record says session other"),
        (a_scope(elsewhere=True), "another container"),
        (a_scope(stopping=True), "being stopped"),
        (a_scope(members=()), "nothing runs"),
        (a_scope(members=(a_member(pids=()),)), "nothing runs"),
        (a_scope(), "has ended"),  # there is no such cgroup
    ],
)
def test_what_cannot_be_labelled_is_skipped_with_the_reason(scope, words):
    (done,) = label.label([Selected(scope)], "codex:1")
    assert words in done.problem
    assert done.label == ""


def test_a_label_is_refused_where_it_would_name_members_that_are_not_selected():
    one, two = a_member("a"), a_member("b", "00000002")
    scope = a_scope(members=(one, two, a_member("gone", "00000003", pids=())))
    (done,) = label.label([Selected(scope, one)], "codex:1")
    assert done.problem == "1 of its 2 members are not selected; a label is the whole scope's"
    (done,) = label.label([Selected(scope, one), Selected(scope, two)], "codex:1")
    assert done.problem == label.ENDED


def test_scopes_that_only_their_owner_names_are_found_by_the_owner():
    own = a_scope()
    others = (
        a_scope("codex:1"),
        a_scope(label="codex:1"),
        a_scope("pid-258", (a_member(pid=258),)),
        a_scope(members=(a_member(liveness=Liveness.GONE),)),
        a_scope(members=(a_member(liveness=Liveness.UNKNOWN),)),
    )
    assert label.unnamed(Snapshot((*others, own)), "257") == [Selected(own, own.members[0])]
    assert label.is_unnamed(a_scope("cursor-257"))
    assert not label.is_unnamed(a_scope("cursor-2570"))
    assert not label.is_unnamed(a_scope("agent:main-257"))
    service = Scope("x.scope", "/c", "/", 0, "gw.service", "main", owner=Owner(unit="gw.service"))
    assert label.is_unnamed(service)
    assert not label.is_unnamed(dataclasses.replace(service, session="gw2.service"))
    assert not label.is_unnamed(dataclasses.replace(service, session=""))


LIFE = {"OWNER_PID": "257", "OWNER_START": "9", "NAMESPACES": "1/2", "BOOT": "b"}


@pytest.fixture
def links(tmp_path, monkeypatch):
    folder = tmp_path / "scopekeeper" / "labels"
    monkeypatch.setattr(launch_ledger, "labels", lambda: str(folder))
    return folder


@given(session=NAMES, name=NAMES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_session_keeps_any_label_for_one_life_of_its_owner(links, session, name):
    owner = Owner(pid=257, start_time=9, namespaces="1/2", boot_id="b")
    life = session_label.life_of(owner)
    session_label.remember(session, life, name)
    assert session_label.of_launch(session, LIFE) == name
    assert session_label.of_launch(f"{session}x"[1:], LIFE) in ("", name)
    for other in ({"OWNER_PID": "258"}, {"OWNER_START": "10"}, {"NAMESPACES": "2/2"},
                  {"BOOT": "c"}, {"OWNER_EPOCH": "e"}, {"OWNER_START": ""}):  # fmt: skip
        assert session_label.of_launch(session, LIFE | other) == ""
    session_label.remember(session, life, "")
    assert session_label.of_launch(session, LIFE) == ""
    assert list(links.iterdir()) == []


def test_a_service_has_labels_for_the_life_that_goes_on(links):
    owner = Owner(unit="gw.service", epoch="e1", cgroup="/gw.service")
    session_label.remember("gw.service", session_label.life_of(owner), "codex:1")
    service = {"OWNER_UNIT": "gw.service", "NAMESPACES": "1/2", "BOOT": "b"}
    found = [session_label.of_launch("gw.service", service | {"OWNER_EPOCH": epoch})
             for epoch in ("e1", "e2", "ended", "")]  # fmt: skip
    assert found == ["codex:1", "", "", ""]
    assert session_label.life_of(Owner()) == session_label.life_of(Owner(epoch="ended")) == ""


def test_the_newest_links_are_kept(links, monkeypatch):
    monkeypatch.setattr(session_label, "_MOST", 3)
    for number in range(5):
        session_label.remember(f"s{number}", "e", "x")
        link = next(each for each in links.iterdir() if f"-s{number}-" in each.name)
        os.utime(link, (number, number), follow_symlinks=False)
    assert sorted(each.name for each in links.iterdir()) == [
        f"scopekeeper-s{number}-e" for number in (2, 3, 4)
    ]


def test_a_label_is_given_where_later_scopes_cannot_have_it(links):
    links.parent.write_text("in the way")
    session_label.remember("s", "e", "x")
    session_label.remember("s", "e", "")
    assert session_label.of_launch("s", LIFE | {"OWNER_EPOCH": "e"}) == ""


def test_a_label_that_was_taken_over_is_not_its_own():
    assert label.is_unnamed(a_scope(label="codex:1", label_taken=True))
    assert not label.is_unnamed(a_scope("codex:1", label="codex:1", label_taken=True))
    raw = records.dumps({**SCOPE, "LABEL": "x", "LABEL_TAKEN": "1"})
    assert record_parser.scope(raw, UNIT).label_taken
    with pytest.raises(records.RecordError):
        record_parser.scope(records.dumps({**SCOPE, "LABEL_TAKEN": "2"}), UNIT)


LAUNCH = {
    "SESSION": "s", "LANE": "main", "CGROUP": "/x/scopekeeper-s-main.scope", "NAME": "time",
    "PID": "7", "START": "1", "ID": "0a1b2c3d", "STARTED": "5", "NAMESPACES": "1/2", "BOOT": "b",
    "SCOPE_BORN": "100",
}  # fmt: skip


def read(raw):
    return [each.end for each in member_lines.parsed(raw, label_lines.read(raw))]


@given(NAMES, st.lists(st.one_of(st.none(), NAMES), max_size=3), st.booleans())
def test_an_end_has_the_newest_label_of_its_scope(last, earlier, launched_first):
    given_labels = [*(x or "" for x in earlier), last]
    lines = [launch_ledger.label_line(LAUNCH["CGROUP"], "100", each) for each in given_labels]
    launch = launch_ledger.line(LAUNCH)
    (end,) = read(b"".join([launch, *lines] if launched_first else [*lines, launch]))
    assert end.label == last
    (end,) = read(b"".join([launch, *lines, launch_ledger.label_line(LAUNCH["CGROUP"], "100", "")]))
    assert end.label == ""


def test_a_label_is_not_that_of_a_later_scope_of_the_same_name_nor_of_another_scope():
    labels = launch_ledger.label_line(LAUNCH["CGROUP"], "100", "codex:1")
    for other in (
        {"SCOPE_BORN": "101"},
        {"SCOPE_BORN": ""},
        {"CGROUP": "/scopekeeper-t-main.scope"},
    ):
        assert [end.label for end in read(labels + launch_ledger.line(LAUNCH | other))] == [""]


@given(st.binary(max_size=300))
def test_any_bytes_may_stand_beside_the_line_of_a_label(junk):
    raw = junk + launch_ledger.label_line(LAUNCH["CGROUP"], "100", "codex:1") + b"\n" + junk
    assert label_lines.read(raw)[LAUNCH["CGROUP"], "100"].label == "codex:1"


@pytest.mark.parametrize(
    "change",
    [{"LABEL": "x" * 513}, {"LABELLED": "7"}, {"LABELLED": ""}, {"CGROUP": ""}, {"SCOPE_BORN": ""}],
)
def test_the_line_of_a_label_that_none_of_ours_wrote_says_nothing(change):
    good = {"LABELLED": "0" * 20, "LABEL": "x", "CGROUP": "/c", "SCOPE_BORN": "1"}
    assert label_lines.read(launch_ledger.line(good))
    assert not label_lines.read(launch_ledger.line({**good, **change}))


def test_only_labels_of_scopes_that_are_still_needed_stay_in_the_ledger():
    raw = launch_ledger.label_line("/a", "1", "x") + launch_ledger.label_line("/b", "1", "y")
    kept = b"".join(label_lines.kept(label_lines.read(raw), {("/a", "1"), ("/c", "1")}))
    assert {key: each.label for key, each in label_lines.read(kept).items()} == {("/a", "1"): "x"}


def test_the_history_finds_an_end_by_its_label(tmp_path):
    store = HistoryStore(tmp_path)
    store.write([an_end(member(1), label="codex:1"), an_end(member(2))])
    for how in ({"about": "codex:1"}, {"session": "codex:1"}, {"equal": {"session": "codex:1"}}):
        assert [end.member_id for end in store.read(**how)] == [member(1)]
    assert len(store.read(session="s")) == 2
    assert store.read(session="") == []


def test_a_label_stays_whoever_reports_the_same_end_without_it(tmp_path):
    with_label, without = an_end(label="codex:1"), an_end(evidence="x")
    assert merged(with_label, without).label == merged(without, with_label).label == "codex:1"
    store = HistoryStore(tmp_path)
    store.write([without])
    store.write([with_label])
    assert [end.label for end in store.read()] == ["codex:1"]


def test_a_history_from_before_there_were_labels_is_read_and_then_has_them(tmp_path):
    store = HistoryStore(tmp_path)
    store.write([an_end(member(1))], [an_end(member(2))])
    with sqlite3.connect(store.path) as connection:
        for table in ("ends", "living"):
            connection.execute(f"ALTER TABLE {table} DROP COLUMN label")
    assert [end.label for end in (*store.read(about="s"), *store.living())] == ["", ""]
    assert store.read(about="codex:1") == []
    store.write([an_end(member(3), label="codex:1")], [an_end(member(4), label="codex:2")])
    assert [end.label for end in store.read()] == ["", "codex:1"]
    assert sorted(end.label for end in store.living()) == ["", "codex:2"]


def test_an_earlier_version_writes_and_reads_a_history_with_labels(tmp_path):
    """It names the columns that it knows, and the version of the file is one that it knows."""
    store = HistoryStore(tmp_path)
    store.write([an_end(member(1), label="codex:1")])
    known = [name for name in rows.COLUMNS if name not in rows.ADDED]
    with sqlite3.connect(store.path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)
        some = ", ".join(known)
        (row,) = connection.execute(f"SELECT {some} FROM ends").fetchall()
        row = [member(2) if name == "member_id" else x for name, x in zip(known, row, strict=True)]
        marks = ", ".join("?" * len(known))
        connection.execute(f"INSERT INTO ends ({some}) VALUES ({marks})", row)
    assert sorted(end.label for end in store.read()) == ["", "codex:1"]
