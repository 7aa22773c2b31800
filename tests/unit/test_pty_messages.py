"""Messages about runs: whatever bytes come, only the documented error comes out."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.errors import ScopekeeperError
from scopekeeper.exec import messages, protocol, run
from scopekeeper.exec.protocol import Frames, ProtocolError
from tests.unit.standin import a_run

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
    st.sampled_from([70_000, -1, 1 << 64, 1e308, 10**400, "1a2b3c4d", "\udcff", "\0", "x" * 2000]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
NAMES = ("run", "from", "cols", "rows", "read_only", "seconds", "pid", "start", "status", "resize",
         "ended", "missed", "bytes", "lost", "problem", "hint")  # fmt: skip
OBJECTS = st.dictionaries(st.sampled_from(NAMES), VALUES)
RUNS = st.dictionaries(st.sampled_from(list(run.plain(a_run()))), VALUES).map(
    lambda changed: run.plain(a_run()) | changed
)
WHAT = st.sampled_from(["hold", "started", "failed", "attach", "send", "wait", "list", "dance"])


def payload(values: object) -> bytes:
    return json.dumps(values).encode()


@given(st.one_of(st.binary(), OBJECTS.map(payload), VALUES.map(payload)))
def test_no_request_raises_anything_else(data):
    for read in (messages.request, messages.resize):
        with contextlib.suppress(ProtocolError):
            read(data)


@given(WHAT, OBJECTS)
def test_what_is_read_of_a_request_can_be_used(what, values):
    with contextlib.suppress(ProtocolError):
        request = messages.request(payload({"run": "1a2b3c4d", **values, "do": what}))
        if isinstance(request, messages.Attach):
            assert run.is_id(request.run)
            assert 0 <= request.cols < 1 << 16
            assert 0 <= request.rows < 1 << 16
            assert -1 <= request.position < 1 << 63
        elif isinstance(request, messages.Started):
            assert 0 < request.pid <= 1 << 22
        elif isinstance(request, messages.Send):
            assert 0 < request.seconds < 1 << 40


@given(RUNS)
def test_a_run_that_is_to_be_held_has_only_begun(values):
    with contextlib.suppress(ProtocolError):
        request = messages.request(payload({"do": "hold", "run": values}))
        new = request.run
        assert (new.directory, new.leaf, new.pid, new.ended) == ("", "", None, None)
        assert 0 < new.cols < 1 << 16
        assert 0 < new.log_max < 1 << 63
        json.dumps(run.plain(new))  # as it is written down and answered


@given(OBJECTS)
def test_no_answer_raises_anything_else(values):
    with contextlib.suppress(ProtocolError):
        messages.attached(values)
    with contextlib.suppress(ProtocolError):
        messages.taken(values)
    with contextlib.suppress(ProtocolError, ScopekeeperError):
        messages.news(values)
    messages.end(values)


@given(st.binary(max_size=300), st.integers(1, 40))
def test_a_stream_is_frames_or_an_error_however_it_is_cut(data, size):
    found = []
    for each in (size, len(data) or 1):
        frames, seen = Frames(64), []
        with contextlib.suppress(ProtocolError):
            for at in range(0, len(data), each):
                seen += frames.feed(data[at : at + each])
        found.append(seen)
    assert found[0] == found[1][: len(found[0])]


@pytest.mark.parametrize("text", ["[" * 100_000, '{"do":' * 50_000, '{"do":NaN}', "9" * 5000, "[]"])
def test_json_that_is_no_message_is_refused(text):
    with pytest.raises(ProtocolError):
        protocol.parse(text.encode())


def test_what_this_version_sends_is_what_it_reads():
    new = a_run(tty=False, timeout=7, argv=("sh", "\udcff"))
    data = protocol.message(do="hold", run=run.plain(new), later="more")
    ((kind, text),) = Frames().feed(data)
    assert (kind, messages.request(text)) == (protocol.JSON, messages.Hold(new))
    begun = {"do": "attach", "run": "1a2b3c4d", "from": -1, "cols": 80, "rows": 24}
    assert messages.request(payload(begun)) == messages.Attach("1a2b3c4d", -1, 80, 24, False)
    assert messages.resize(payload({"resize": [70, 20]})) == (70, 20)
    ended = run.Ended(1, "exited", exit_status=3)
    assert messages.news({"ended": run.plain_end(ended)}) == messages.News(True, ended)


FRAMES = st.lists(
    st.tuples(st.sampled_from([protocol.JSON, protocol.DATA, protocol.END]), st.binary(max_size=70))
)


@given(FRAMES, st.lists(st.integers(1, 40)), st.binary(max_size=4))
def test_whole_frames_come_back_however_the_stream_is_cut(sent, sizes, half):
    data = b"".join(protocol.frame(*each) for each in sent) + half
    frames, found = Frames(80), []
    while data:
        size = sizes.pop() if sizes else len(data)
        found += frames.feed(data[:size])
        data = data[size:]
    assert found == sent


@given(FRAMES, st.integers(0), st.integers(81, (1 << 32) - 1))
def test_a_frame_that_is_too_large_is_refused_before_it_has_come(sent, at, length):
    data = b"".join(protocol.frame(*each) for each in sent[: at % (len(sent) + 1)])
    frames = Frames(80)
    assert len(list(frames.feed(data))) == at % (len(sent) + 1)
    with pytest.raises(ProtocolError):
        list(frames.feed(protocol.DATA + length.to_bytes(4, "little")))
