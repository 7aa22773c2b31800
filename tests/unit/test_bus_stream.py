"""Messages of the bus, before the library reads them: none is cut, and none is too large."""

import io
import struct

from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.keeper.bus_stream import Sieve

MOST = 100


class Pieces(io.RawIOBase):
    """Gives bytes in pieces of these sizes, then all; a size of 0 is a moment without any."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self._data, self._sizes = data, sizes

    def read(self, many: int = -1) -> bytes | None:
        size = self._sizes.pop(0) if self._sizes else many
        if size == 0:
            return None
        given, self._data = self._data[: min(many, size)], self._data[min(many, size) :]
        return given


def message(kind: int, order: str, fields: bytes, body: bytes) -> bytes:
    first = b"l" if order == "<" else b"B"
    head = struct.pack(order + "cBBBIII", first, kind, 0, 1, len(body), 7, len(fields))
    return head + fields + bytes(-len(fields) % 8) + body


MESSAGES = st.builds(
    message,
    st.sampled_from([1, 2, 3, 4, 0, 5, 255]),
    st.sampled_from("<>"),
    st.binary(max_size=40),
    st.binary(max_size=40) | st.integers(MOST - 50, MOST + 9).map(bytes) | st.just(bytes(70_000)),
)


@given(st.lists(MESSAGES, max_size=5), st.lists(st.integers(0, 30)), st.binary(max_size=15))
def test_what_is_passed_on_is_whole_messages_however_they_come(messages, sizes, half):
    sieve = Sieve(Pieces(b"".join(messages) + half, sizes), MOST)
    wanted = [each for each in messages if 1 <= each[1] <= 4 and len(each) <= 16 + MOST]
    found, ask = b"", 16
    while (data := sieve.read(ask)) != b"":
        found += data or b""
        ask = ask * 7 % 4093 + 1
    assert found == b"".join(wanted)
