"""A record that anybody may have written is read typed and bounded, or is said to be damaged."""

import contextlib
import dataclasses

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scopekeeper.scope import names, record_parser, records
from scopekeeper.scope.model import Identity
from scopekeeper.scope.records import KINDS, LIFETIMES

SCOPE = {
    "SESSION": "agent:main", "LANE": "cron", "RUN": "7", "SESSION_ID": "life", "KIND": "mcp",
    "LIFETIME": "gateway", "CREATED": "1764190000000000", "BOOTTIME": "123456789",
    "TTL": "60000000", "GRACE": "0", "BOUND": "gw.service", "OWNER_UNIT": "gw.service",
    "OWNER_EPOCH": "0123456789abcdef0123456789abcdef", "OWNER_CGROUP": "/system.slice/gw.service",
    "OWNER_PID": "4194304", "OWNER_START": "9", "OWNER_NAME": "a) (b\n",
    "BOOT": "b", "NAMESPACES": "1/2",
    "IDLE": "1 2 3", "STATE": "stopping", "STOPPER_PID": "1", "STOPPER_START": "2",
    "WHY": "stopped by request", "REASON": "x", "ASKER_PID": "5", "ASKER_UID": "1000",
    "ASKER_COMM": "sh", "ASKER_USER": "op", "ASKER_TTY": "pts/3",
    "MEMORY_MAX": "-1", "NEWER_FIELD": "kept",
}  # fmt: skip
MEMBER = {
    "NAME": "git", "PID": "4242", "START": "99", "KIND": "exec", "LIFETIME": "session",
    "STARTED": "1764190000000000", "BOOTTIME": "5", "ORPHANED": "6", "LEADERLESS": "7",
    "JOINING": "child", "ID": "00000001", **{k: v for k, v in SCOPE.items() if "OWNER" in k},
}  # fmt: skip
UNIT = names.unit_name("agent:main", "cron", "7")
LEAF = names.leaf_name("git", "00000001")
NUMBERS = (
    "CREATED", "BOOTTIME", "TTL", "GRACE", "OWNER_PID", "OWNER_START", "STOPPER_PID",
    "STOPPER_START", "ASKER_PID", "ASKER_UID", "PID", "START", "STARTED", "ORPHANED", "LEADERLESS",
)  # fmt: skip
NO_NUMBERS = (
    "--5", "-5", "+5", "", " 5", "5 ", "5_0", "0x5", "1e3", "\u0665", "\xb2", "\uff19",
    "9" * 20, "9" * 400, "9" * 5000, str(2**63), "nan", "5\n",
)  # fmt: skip


def raw(fields, **changes):
    """Write a record, empty values too."""
    lines = ["V=1", *(f"{k}={records._escaped(v)}" for k, v in (fields | changes).items()), ""]
    return "\n".join(lines).encode("utf-8", "surrogateescape")


def test_every_field_comes_back():
    found = record_parser.scope(raw(SCOPE), UNIT)
    assert found.identity == Identity("agent:main", "cron", "7")
    assert found.claims is None
    assert (found.ttl, found.grace, found.idle) == (60_000_000, 0, (1, 2, 3))
    assert (found.owner.pid, found.owner.unit, found.bound) == (2**22, "gw.service", "gw.service")
    assert found.owner.name == "a) (b\n"
    assert found.mark.asker == (5, 1000, "sh", "op", "pts/3")
    one = record_parser.member(raw(MEMBER), LEAF)
    assert (one.name, one.claims, one.pid, one.start_time) == ("git", "", 4242, 99)
    assert (one.orphaned, one.leaderless, one.joining) == (6, 7, "child")


def test_what_the_oldest_version_wrote_is_enough():
    least = record_parser.scope(b"V=1\nSESSION=s\nLANE=main\n", "scopekeeper-s-main.scope")
    assert (least.identity, least.ttl, least.mark) == (Identity("s", "main"), None, None)
    assert record_parser.member(b"V=1\nNAME=x\nPID=1\nSTART=0\n", "m-x.00000001").started == 0


@pytest.mark.parametrize("key", NUMBERS)
def test_no_other_text_passes_for_a_number(key):
    for text in NO_NUMBERS:
        for fields, read, name in (
            (SCOPE, record_parser.scope, UNIT),
            (MEMBER, record_parser.member, LEAF),
        ):
            if key in fields:
                with pytest.raises(records.RecordError, match=key):
                    read(raw(fields, **{key: text}), name)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("OWNER_PID", str(2**22 + 1)),
        ("CREATED", str(2**62)),
        ("KIND", "other"),
        ("LIFETIME", "for ever"),
        ("STATE", "going"),
        ("IDLE", "1 2"),
        ("IDLE", "1 2 --3"),
        ("SESSION", "x" * 513),
        ("SESSION", "x\0"),
        ("SESSION", ""),
        ("LANE", "x" * 641),
        ("RUN", "x" * 513),
        ("OWNER_UNIT", "x" * 256),
        ("OWNER_CGROUP", "relative"),
        ("OWNER_CGROUP", "/../../etc"),
        ("REASON", "x" * 5000),
    ],
)
def test_a_wrong_field_is_named(key, value):
    with pytest.raises(records.RecordError):
        record_parser.scope(raw(SCOPE, **{key: value}), UNIT)


def test_a_record_is_bounded_in_size_and_number():
    with pytest.raises(records.RecordError, match="bytes"):
        record_parser.scope(raw(SCOPE, OTHER="x" * 40_000), UNIT)
    with pytest.raises(records.RecordError, match="fields"):
        record_parser.scope(raw(SCOPE | {f"K{n}": "x" for n in range(60)}), UNIT)
    with pytest.raises(record_parser.NewerError, match="version 2"):
        record_parser.scope(b"V=2\nSESSION=x\n", UNIT)
    for text in (b"", b"V=\xd9\xa5\n", b"V=1", b"V=" + b"9" * 5000 + b"\n"):
        with pytest.raises(records.RecordError) as caught:
            record_parser.scope(text, UNIT)
        assert len(str(caught.value)) < 100


def test_a_record_that_contradicts_the_name_is_only_a_claim():
    found = record_parser.scope(raw(SCOPE, SESSION="other", RUN=""), UNIT)
    assert found.identity == Identity("agent:main", "cron", "7")
    assert found.claims == Identity("other", "cron", "")
    one = record_parser.member(raw(MEMBER, NAME="innocent"), LEAF)
    assert (one.name, one.claims) == ("git", "innocent")


TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1)


@given(TEXT.filter(lambda t: len(t) <= 512), TEXT, TEXT | st.just(""))
@example("x" * 512, "nested:" + "y" * 500, "z" * 300)
def test_no_record_that_was_written_with_its_name_is_forged(session, lane, run):
    unit = names.unit_name(session, lane, run)
    found = record_parser.scope(raw({"SESSION": session, "LANE": lane, "RUN": run}), unit)
    assert (found.identity, found.claims) == (Identity(session, lane, run), None)


def check(value):
    """See that a value is of its type, in range and bounded, however it came about."""
    if dataclasses.is_dataclass(value):
        for each in dataclasses.fields(value):
            check(getattr(value, each.name))
    elif isinstance(value, tuple):
        for each in value:
            check(each)
    elif isinstance(value, int):
        assert 0 <= value < 2**63
    else:
        assert value is None or (isinstance(value, str) and len(value) <= 4096)


def read_all(text):
    """Read bytes in every way; nothing but RecordError may come of it."""
    for read in (
        lambda: record_parser.scope(text, UNIT),
        lambda: record_parser.member(text, LEAF),
        lambda: record_parser.stop_mark(text),
    ):
        with contextlib.suppress(records.RecordError):
            found = read()
            check(found)
            assert getattr(found, "kind", "") in ("", *KINDS)
            assert getattr(found, "lifetime", "") in ("", *LIFETIMES)


@given(TEXT.filter(lambda t: 0 < len(t) <= 255), st.sampled_from(KINDS))
def test_a_member_and_its_kind_survive_the_way_into_a_record_and_back(name, kind):
    leaf = names.leaf_name(name, "00000001")
    found = record_parser.member(raw(MEMBER, NAME=name, KIND=kind), leaf)
    assert (found.name, found.kind, found.claims) == (name, kind, "")


@pytest.mark.parametrize("byte", ["\x80", "\xa5", "\xe2", "\xff"])
def test_texts_that_are_not_utf_8_are_read_as_any_other(byte):
    text = (byte * 200).encode("latin-1").decode("utf-8", "surrogateescape")
    found = record_parser.scope(raw(SCOPE, SESSION=text, LANE=text, RUN=text), UNIT)
    assert found.claims == Identity(text, text, text)
    assert record_parser.member(raw(MEMBER, NAME=text), LEAF).claims == text


@given(st.binary(max_size=2000))
def test_no_bytes_do_worse_than_damage(text):
    read_all(text)
    read_all(b"V=1\n" + text)
    read_all(b"V=1\nSESSION=s\nLANE=l\nNAME=n\nPID=1\nSTART=1\n" + text + b"\n")


VALUE = st.sampled_from(NO_NUMBERS) | st.text(max_size=600) | st.integers().map(str)


@given(
    st.sampled_from([SCOPE, MEMBER]),
    st.dictionaries(st.sampled_from([*SCOPE, *MEMBER]), VALUE, max_size=5),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=4),
)
def test_no_change_of_a_valid_record_does_worse_than_damage(fields, changes, flips):
    text = bytearray(raw(fields, **{k: v.replace("\0", "") for k, v in changes.items()})
                     if all(c < "\ud800" or c > "\udfff" for v in changes.values() for c in v)
                     else raw(fields))  # fmt: skip
    for at, byte in flips:
        text[at % len(text)] = byte
    read_all(bytes(text))
