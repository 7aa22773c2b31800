"""Keys as people write them, and the keys that detach."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.exec.keys import Detach, parse


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ("ctrl-\\", b"\x1c"),
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("C-p C-q", b"\x10\x11"),
        ("Ctrl-P", b"\x10"),
        ("ctrl-@", b"\0"),
        ("ctrl-space", b"\0"),
        ("ctrl-?", b"\x7f"),
        ("ctrl-[", b"\x1b"),
        ("ctrl-_", b"\x1f"),
        ("enter", b"\r"),
        ("Enter", b"\r"),
        ("tab,esc,space,backspace", b"\t\x1b \x7f"),
        ("delete", b"\x1b[3~"),
        ("insert", b"\x1b[2~"),
        ("up,down,right,left", b"\x1b[A\x1b[B\x1b[C\x1b[D"),
        ("home,end,pageup,pagedown", b"\x1b[H\x1b[F\x1b[5~\x1b[6~"),
        ("f1,f4,f5,f12", b"\x1bOP\x1bOS\x1b[15~\x1b[24~"),
        ("alt-x", b"\x1bx"),
        ("M-x", b"\x1bx"),
        ("alt-ctrl-x", b"\x1b\x18"),
        ("a", b"a"),
        ("A", b"A"),
        ("é", "é".encode()),
        (",", b","),
        ("-", b"-"),
        ("a,comma,b", b"a,b"),
    ],
)
def test_keys_are_what_a_terminal_sends(text: str, typed: bytes) -> None:
    assert parse(text) == typed


@pytest.mark.parametrize("text", ["", " , ", "ctrl-", "ctrl-1", "ctrl-é", "f13", "hello", "alt-"])
def test_what_is_no_key_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match="key") as caught:
        parse(text)
    assert "\n" not in str(caught.value)


def test_one_detach_key_ends_what_is_passed_on() -> None:
    assert Detach(b"\x1c").feed(b"ls\r\x1cnot this") == (b"ls\r", True)


def test_two_detach_keys_may_come_apart() -> None:
    detach = Detach(b"\x10\x11")
    assert detach.feed(b"ab\x10") == (b"ab", False)
    assert detach.feed(b"\x11") == (b"", True)


def test_the_first_key_alone_is_passed_on_when_another_follows() -> None:
    detach = Detach(b"\x10\x11")
    assert detach.feed(b"\x10") == (b"", False)
    assert detach.feed(b"x") == (b"\x10x", False)


def test_the_first_key_typed_twice_reaches_the_program_once() -> None:
    detach = Detach(b"\x10\x11")
    assert detach.feed(b"\x10") == (b"", False)
    assert detach.feed(b"\x10") == (b"\x10", False)
    assert detach.feed(b"\x11") == (b"\x11", False)


def test_a_sequence_that_begins_within_itself_is_found() -> None:
    detach = Detach(b"aab")
    assert detach.feed(b"xa") == (b"x", False)
    assert detach.feed(b"aab") == (b"a", True)


def test_an_escape_that_is_no_function_key_is_let_go() -> None:
    detach = Detach(parse("f12"))
    assert detach.feed(b"\x1b") == (b"", False)
    assert detach.waits
    assert detach.release() == b"\x1b"
    assert detach.feed(b"\x1b[24~") == (b"", True)


def test_without_keys_nothing_detaches() -> None:
    assert Detach(b"").feed(bytes(range(256))) == (bytes(range(256)), False)


@given(
    st.lists(st.binary(max_size=5)),
    st.sampled_from([b"\x1c", b"\x10\x11", b"\x1b[24~", b"aab"]),
)
def test_nothing_else_is_lost(pieces: list[bytes], sequence: bytes) -> None:
    typed, passed, detach = b"".join(pieces), b"", Detach(sequence)
    for piece in pieces:
        out, detached = detach.feed(piece)
        passed += out
        if detached:
            assert sequence in typed
            return
    passed += detach.release()
    if sequence[:1] * 2 not in typed:
        assert passed == typed
        assert sequence not in typed


@pytest.mark.parametrize(
    "key",
    [b"\x1b[27;5;92~", b"\x1b[92;5u", b"\x1b[92;133u", b"\x1b[92;5:1u", b"\x1b[92:124:92;6u",
     b"\x1b[92;5;92u"],
)  # fmt: skip
def test_a_key_that_a_program_has_the_terminal_encode_detaches_too(key: bytes) -> None:
    assert Detach(b"\x1c").feed(b"ab" + key + b"c") == (b"ab", True)


@pytest.mark.parametrize(
    "key", [b"\x1b[27;5;93~", b"\x1b[92u", b"\x1b[92;7u", b"\x1b[1;5A", b"\x1b[3~", b"\x1b[60;5u"]
)
def test_other_encoded_keys_are_passed_on_as_they_are(key: bytes) -> None:
    assert Detach(b"\x1c").feed(b"a" + key + b"b") == (b"a" + key + b"b", False)


def test_a_released_key_is_not_one_that_was_typed() -> None:
    detach = Detach(b"\x10\x11")
    assert detach.feed(b"\x1b[112;5u\x1b[112;5:3u") == (b"", False)
    assert detach.feed(b"x\x1b[112;5u") == (b"\x10x", False)
    assert detach.feed(b"\x1b[113;5u") == (b"", True)
