"""The journal is told of each end, and whether there is one is no matter."""

import socket
import struct
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.history import journal
from scopekeeper.systemd.journal import datagram
from tests.unit.ends import an_end
from tests.unit.test_history import ENDS


def fields_of(raw):
    """Read the native protocol as journald does."""
    found = {}
    while raw:
        line, _, rest = raw.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (size,) = struct.unpack_from("<Q", rest)
            value, rest = rest[8 : 8 + size], rest[9 + size :]
        found[name.decode()] = value
        raw = rest
    return found


@given(ENDS)
def test_an_entry_has_its_fields_and_no_arguments(end):
    found = fields_of(datagram(journal.entry(end)))
    assert found["MESSAGE_ID"].decode() == journal.MESSAGE_ID
    assert found["SCOPEKEEPER_REASON"].decode() == end.reason.value
    for name in ("MESSAGE", "SCOPEKEEPER_TEXT"):
        text = found.get(name, b"").decode()  # without lone surrogates
        assert not any(unicodedata.category(each) == "Cc" for each in text)
    counts = [found.get(f"SCOPEKEEPER_{name}", b"-").decode() for name in ("PROCESSES", "KILLED")]
    is_counted = end.processes is not None
    assert counts == ([str(end.processes), str(end.killed)] if is_counted else ["-", "-"])
    session = end.session[:2048].encode("utf-8", "surrogatepass")
    assert found.get("SCOPEKEEPER_SESSION", b"") == session
    assert set(found) <= {
        "MESSAGE", "MESSAGE_ID", "PRIORITY", "SYSLOG_IDENTIFIER", "SCOPEKEEPER_SESSION",
        "SCOPEKEEPER_LANE", "SCOPEKEEPER_RUN", "SCOPEKEEPER_SCOPE", "SCOPEKEEPER_MEMBER",
        "SCOPEKEEPER_REASON", "SCOPEKEEPER_PROCESSES", "SCOPEKEEPER_KILLED", "SCOPEKEEPER_TEXT",
    }  # fmt: skip


@given(st.text(st.characters()))
def test_no_text_can_add_a_field(text):
    found = fields_of(datagram({"MESSAGE": text, "PRIORITY": "6"}))
    assert set(found) <= {"MESSAGE", "PRIORITY"}
    assert found["PRIORITY"] == b"6"


def test_each_end_is_one_datagram(tmp_path):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(path)
        journal.send([an_end("00000001"), an_end("00000002")], path)
        server.settimeout(5)
        leaves = [fields_of(server.recv(65536))["SCOPEKEEPER_MEMBER"] for _ in range(2)]
    assert leaves == [b"m-git.00000001", b"m-git.00000002"]


def test_without_a_journal_nothing_happens(tmp_path):
    journal.send([an_end()], str(tmp_path / "none"))


def test_a_journal_that_hangs_is_not_waited_for(tmp_path):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(path)
        journal.send([an_end()] * 2000, path)
