"""What is written down of a run is read by other versions than the one that wrote it."""

import dataclasses
import json
import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.errors import ScopekeeperError, StateError
from scopekeeper.exec import send
from scopekeeper.exec.run import (
    FILE,
    Ended,
    Run,
    find,
    load,
    load_all,
    parse,
    plain,
    save,
    unreadable,
)

ID = "0123abcd"
OTHER = "4567cdef"


@pytest.fixture
def state(tmp_path, monkeypatch):
    """A state folder with one run in it that ended."""
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path))
    ended = Ended(at=7, reason="signalled", evidence="killed by SIGHUP", signal=1, output="last\n")
    save(a_run(ID, ended))
    return tmp_path


def a_run(run_id, ended=None):
    return Run(
        id=run_id, session="agent:s", lane="cron:x", name="sh", argv=("sh", "-c", "\udcff"),
        started=5, boot_id="b", pid=4711, start_time=9, timeout=3, ended=ended,
    )  # fmt: skip


def path_of(state, run_id=ID):
    return state / "runs" / run_id / "run.json"


def change(state, run_id=ID, *, without=(), **values):
    """Write a record as another version would, or a bad disk."""
    path = path_of(state, run_id)
    known = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({name: known[name] for name in known if name not in without}))


def test_what_a_newer_version_wrote_is_still_there_when_this_one_wrote_again(state):
    ended = {**json.loads(path_of(state).read_text())["ended"], "core": {"kept": True}}
    change(state, colour="red", nested={"a": [1]}, ended=ended)
    known = load(ID)
    assert known == find("0123")
    assert known.ended.status == 129
    save(known)
    written = json.loads(path_of(state).read_text())
    assert (written["colour"], written["nested"]) == ("red", {"a": [1]})
    assert written["ended"]["core"] == {"kept": True}
    assert "extra" not in written
    assert "extra" not in written["ended"]


def test_it_is_told_to_others_as_it_is_written_down(state):
    change(state, colour="red", extra={})
    known = load(ID)
    sent = json.loads(json.dumps(plain(known)))
    assert parse(sent) == known
    save(known)
    assert sent == json.loads(path_of(state).read_text())
    assert sent["colour"] == "red"


def test_what_an_older_version_did_not_write_has_its_default(state):
    needed = {"id", "session", "lane", "name", "argv", "started", "boot_id"}
    change(state, without=set(json.loads(path_of(state).read_text())) - needed)
    assert load(ID) == Run(
        ID, "agent:s", "cron:x", "sh", ("sh", "-c", "\udcff"), started=5, boot_id="b"
    )


DEEP = 0
for _ in range(200):
    DEEP = [DEEP]
BROKEN = {
    "empty": "", "cut": '{"id": "0123abcd", "sess', "list": "[]", "deep": "[" * 100_000,
    "other run": {"id": OTHER}, "no id": {"id": "../../etc"}, "no session": {"session": None},
    "started": {"started": "yesterday"}, "argv": {"argv": "sh"}, "words": {"argv": [1]},
    "end": {"ended": "yes"}, "end's time": {"ended": {"at": None, "reason": "exited"}},
    "end's reason": {"ended": {"at": 1}}, "bytes": b"\xff\xfe\0",
    "no number": {"started": True}, "digits": '{"id": "0123abcd", "started": ' + "9" * 5000,
    "too large": {"joined": 10**400}, "negative": {"pid": -1},
    "status": {"ended": {"at": 1, "reason": "exited", "exit_status": 256}},
    "rows": {"rows": 65_536}, "NaN": {"born": float("nan")}, "unknown NaN": {"x": float("inf")},
    "NUL": {"argv": ["a\0b"]}, "surrogate": {"session": "\ud800"}, "long": {"lane": "x" * 70_000},
    "place": {"directory": "/sys/../etc"}, "relative": {"directory": "etc"},
    "leaf": {"leaf": "a/b"},
    "no text": {"directory": 5}, "unknown and deep": {"x": [[[[[[[[{"y": DEEP}]]]]]]]]},
}  # fmt: skip


@pytest.mark.parametrize("how", BROKEN)
def test_a_record_that_cannot_be_meant_is_reported_and_harms_no_other(state, how):
    save(a_run(OTHER))
    wrong = BROKEN[how]
    if isinstance(wrong, dict):
        change(state, **wrong)
    else:
        path_of(state).write_bytes(wrong if isinstance(wrong, bytes) else wrong.encode())
    assert load(ID) is None
    assert [run.id for run in load_all()] == [OTHER]
    (told,) = unreadable()
    assert str(path_of(state)) in told
    assert len(told.splitlines()) == 1
    with pytest.raises(StateError, match="cannot be read"):
        find(ID)
    assert find("45").id == OTHER


def test_what_must_be_there_and_is_not_is_named(state):
    change(state, without={"lane"})
    assert "'lane' is missing" in unreadable()[0]


def test_a_folder_that_is_none_or_may_not_be_looked_into_is_reported(state):
    save(a_run(OTHER))
    folder = path_of(state, OTHER).parent
    path_of(state, OTHER).unlink()
    assert unreadable() == [], "it is being made"
    folder.rmdir()
    folder.write_text("no folder")
    assert [OTHER in told for told in unreadable()] == [True]
    if os.geteuid():
        path_of(state).parent.chmod(0)
        assert len(unreadable()) == 2
        path_of(state).parent.chmod(stat.S_IRWXU)


def test_nothing_is_typed_into_one_that_has_ended_and_no_keeper_is_waited_for(state, monkeypatch):
    assert state
    monkeypatch.setattr(send, "reach_again", lambda _: pytest.fail("a keeper was looked for"))
    with pytest.raises(ScopekeeperError, match=r"it has ended \(signalled\)"):
        send.send(find(ID), [b"x"], seconds=1)


JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False),
        st.text(st.characters(), max_size=9),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
NAMES = [each.name for each in dataclasses.fields(Run)]


@given(st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=9), JSON, max_size=4))
def test_whatever_is_written_down_is_a_run_in_range_or_an_error_that_is_documented(changes):
    try:
        known = parse({**plain(a_run(ID)), **changes})
    except ValueError:
        return
    for each in (known.started, known.born, known.joined, known.log_max, known.timeout or 0):
        assert type(each) is int
        assert 0 <= each < 2**63
    for text in (*known.argv, known.session, known.directory, known.leaf):
        os.fsencode(text)
        assert "\0" not in text
    assert parse(json.loads(json.dumps(plain(known)))) == known


@given(st.binary(max_size=200))
def test_no_bytes_at_all_are_worse_than_a_record_that_cannot_be_read(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp() / "bytes"
    (folder / "runs" / ID).mkdir(parents=True, exist_ok=True)
    (folder / "runs" / ID / FILE).write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCOPEKEEPER_STATE", str(folder))
        folder.chmod(0o700)
        assert load(ID) is None
        assert len(unreadable()) == 1
