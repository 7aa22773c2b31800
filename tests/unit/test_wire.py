"""The bytes of our D-Bus calls are what an independent implementation reads and writes."""

import io

from dbus_next import Message, MessageType, Variant
from dbus_next._private.unmarshaller import Unmarshaller
from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.launch import manager, wire

TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=60)


def decoded(raw: bytes) -> Message:
    return Unmarshaller(io.BytesIO(raw)).unmarshall()


@given(TEXT, TEXT, st.dictionaries(st.sampled_from(["MemoryMax", "TasksMax"]),
                                   st.integers(0, 2**64 - 1)))  # fmt: skip
def test_a_request_for_a_scope_is_read_as_it_was_meant(description, owner, settings):
    properties = manager.scope_properties(description, "scopekeeper.slice", owner, settings)
    raw = wire.call(
        7, "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
        "org.freedesktop.systemd1.Manager", "StartTransientUnit", "ssa(sv)a(sa(sv))",
        ("a.scope", "fail", properties, ()),
    )  # fmt: skip
    message = decoded(raw)
    assert wire.length_of(raw[:16]) == len(raw)
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
    message = wire.Message(sent._marshall())
    assert (message.kind, message.member) == (wire.SIGNAL, "JobRemoved")
    assert message.strings() == ["/a/b", job, result]


def test_an_error_is_read_with_its_name_and_text():
    sent = Message(
        message_type=MessageType.ERROR, error_name="org.freedesktop.systemd1.UnitExists",
        reply_serial=9, signature="s", body=["it is there"], serial=4,
    )  # fmt: skip
    message = wire.Message(sent._marshall())
    assert (message.kind, message.reply_to) == (wire.ERROR, 9)
    assert message.error.endswith("UnitExists")
    assert message.strings() == ["it is there"]


def test_a_property_that_is_a_string_is_read():
    sent = Message(message_type=MessageType.METHOD_RETURN, reply_serial=2, signature="v",
                   body=[Variant("s", "active")], serial=5)  # fmt: skip
    assert wire.Message(sent._marshall()).strings() == ["active"]


def test_signatures_are_split_into_whole_types():
    assert wire.members("ssa(sv)a(sa(sv))u") == ["s", "s", "a(sv)", "a(sa(sv))", "u"]
    assert wire.members("") == []
