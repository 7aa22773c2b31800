"""The bytes of our D-Bus calls are what an independent implementation reads and writes."""

import contextlib
import io
import socket
import struct
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from dbus_next import Message, MessageType, Variant
from dbus_next._private.unmarshaller import Unmarshaller
from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.launch import create_unit
from scopekeeper.systemd import dbus_wire, manager

TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=60)


def decoded(raw: bytes) -> Message:
    return Unmarshaller(io.BytesIO(raw)).unmarshall()


@given(TEXT, TEXT, st.dictionaries(st.sampled_from(["MemoryMax", "TasksMax"]),
                                   st.integers(0, 2**64 - 1)))  # fmt: skip
def test_a_request_for_a_scope_is_read_as_it_was_meant(description, owner, settings):
    properties = manager.scope_properties(description, "scopekeeper.slice", owner, settings)
    raw = dbus_wire.call(
        7, "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
        "org.freedesktop.systemd1.Manager", "StartTransientUnit", "ssa(sv)a(sa(sv))",
        ("a.scope", "fail", properties, ()),
    )  # fmt: skip
    message = decoded(raw)
    assert dbus_wire.length_of(raw[:16]) == len(raw)
    assert (message.serial, message.member) == (7, "StartTransientUnit")
    assert message.destination == "org.freedesktop.systemd1"
    name, mode, read, auxiliary = message.body
    assert (name, mode, auxiliary) == ("a.scope", "fail", [])
    found = {key: variant.value for key, variant in read}
    assert found["Description"] == description
    assert found["PIDs"] == [0]
    assert found["Delegate"] is True
    assert found.get("BindsTo", []) == ([owner] if owner else [])
    assert {key: found[key] for key in settings} == settings


@given(TEXT, TEXT)
def test_a_signal_is_read_as_it_was_sent(job, result):
    sent = Message(
        message_type=MessageType.SIGNAL, path="/org/freedesktop/systemd1", member="JobRemoved",
        interface="org.freedesktop.systemd1.Manager", signature="uoss",
        body=[41, "/a/b", job, result], serial=3,
    )  # fmt: skip
    message = dbus_wire.Message(sent._marshall())
    assert (message.kind, message.member) == (dbus_wire.SIGNAL, "JobRemoved")
    assert message.strings() == ["/a/b", job, result]


def test_an_error_is_read_with_its_name_and_text():
    sent = Message(
        message_type=MessageType.ERROR, error_name="org.freedesktop.systemd1.UnitExists",
        reply_serial=9, signature="s", body=["it is there"], serial=4,
    )  # fmt: skip
    message = dbus_wire.Message(sent._marshall())
    assert (message.kind, message.reply_to) == (dbus_wire.ERROR, 9)
    assert message.error.endswith("UnitExists")
    assert message.strings() == ["it is there"]


def test_a_property_that_is_a_string_is_read():
    sent = Message(message_type=MessageType.METHOD_RETURN, reply_serial=2, signature="v",
                   body=[Variant("s", "active")], serial=5)  # fmt: skip
    assert dbus_wire.Message(sent._marshall()).strings() == ["active"]


def test_signatures_are_split_into_whole_types():
    assert dbus_wire.members("ssa(sv)a(sa(sv))u") == ["s", "s", "a(sv)", "a(sa(sv))", "u"]
    assert dbus_wire.members("") == []


def big_endian(fields: list[tuple[int, str, object]], signature: str, body: bytes) -> bytes:
    """Return an answer as s390x writes it; kinds of fields are those that answers have."""
    header = b""
    for code, kind, value in [*fields, (8, "g", signature)]:
        header += bytes(-len(header) % 8) + bytes((code, 1)) + kind.encode() + b"\0"
        header += {"u": big_number, "g": big_signature, "s": big_text}[kind](value)
    kind = 3 if any(code == 4 for code, *_ in fields) else 2
    start = b"B" + bytes((kind, 0, 1)) + struct.pack(">III", len(body), 5, len(header))
    return start + header + bytes(-len(header) % 8) + body


def big_number(value):
    return struct.pack(">I", value)


def big_text(text):
    return struct.pack(">I", len(text.encode())) + text.encode() + b"\0"


def big_signature(text):
    return bytes((len(text),)) + text.encode() + b"\0"


@pytest.mark.parametrize(("signature", "body", "read"), [
    ("o", big_text("/org/freedesktop/systemd1/job/7"), ["/org/freedesktop/systemd1/job/7"]),
    ("us", big_number(0x01020304) + big_text("done"), ["done"]),
    ("v", b"\1s\0\0" + big_text("active"), ["active"]),
    ("v", b"\1b\0\0" + big_number(1), ["yes"]),
    ("v", b"\1b\0\0" + big_number(0), ["no"]),
])  # fmt: skip
def test_an_answer_of_a_big_endian_machine_is_read(signature, body, read):
    raw = big_endian([(5, "u", 258)], signature, body)
    assert decoded(raw).reply_serial == 258  # so it is what dbus-next takes for a message
    assert dbus_wire.length_of(raw[:16]) == len(raw)
    message = dbus_wire.Message(raw)
    assert (message.kind, message.reply_to, message.strings()) == (2, 258, read)


def test_an_error_of_a_big_endian_machine_is_read():
    name = "org.freedesktop.systemd1.UnitExists"
    raw = big_endian([(4, "s", name), (5, "u", 9)], "s", big_text("it is there"))
    assert decoded(raw).error_name == name
    message = dbus_wire.Message(raw)
    assert (message.kind, message.error, message.strings()) == (3, name, ["it is there"])


def test_what_is_no_message_is_refused():
    with pytest.raises(ValueError, match="not a D-Bus message"):
        dbus_wire.length_of(b"HTTP/1.1 400 Bad")


@contextlib.contextmanager
def bus_that_answers(answer: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Message]]:
    """Be a bus on which every call has this string as its answer; yield the calls."""
    calls: list[Message] = []
    ours, theirs = socket.socketpair()

    def serve() -> None:
        rest = b""
        while chunk := theirs.recv(65536):
            if not rest and chunk.startswith(b"\0AUTH"):
                theirs.sendall(b"DATA\r\nOK 0123\r\n")
                chunk = chunk.partition(b"BEGIN\r\n")[2]
            rest += chunk
            while len(rest) >= 16 and len(rest) >= (length := dbus_wire.length_of(rest[:16])):
                calls.append(decoded(rest[:length]))
                rest = rest[length:]
                value = Variant("s", answer)
                reply = Message.new_method_return(calls[-1], "v", [value])
                reply.serial = len(calls)
                theirs.sendall(reply._marshall())

    def open_ours(self: manager.Manager, _: str) -> None:
        self._socket = ours

    monkeypatch.setattr(manager.Manager, "_open", open_ours)
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield calls
    finally:
        ours.close()
        thread.join()
        theirs.close()


@pytest.mark.parametrize(("mode", "bound"), [
    ("control-group", "a-b@c.service"), ("mixed", "a-b@c.service"), ("process", ""),
])  # fmt: skip
def test_one_call_asks_whether_a_guest_ends_with_its_service(mode, bound, monkeypatch):
    owner = SimpleNamespace(has_ended=False, is_guest=True, unit="a-b@c.service")
    with bus_that_answers(mode, monkeypatch) as calls, manager.Manager("user", 0) as connection:
        assert create_unit._to_bind(connection, owner) == bound
    assert [each.member for each in calls] == ["Hello", "Get"]
    assert calls[1].path == "/org/freedesktop/systemd1/unit/a_2db_40c_2eservice"
    assert calls[1].body == ["org.freedesktop.systemd1.Service", "KillMode"]


def test_the_object_of_a_unit_has_letters_and_digits_but_no_first_digit():
    assert manager.object_of("9a.scope").rpartition("/")[2] == "_39a_2escope"
    assert manager.object_of("ü_.scope").rpartition("/")[2] == "_c3_bc_5f_2escope"
