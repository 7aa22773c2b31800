"""What a command writes is shown and recorded whole, once, wherever it is cut."""

import hashlib
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.machine import PATIENCE, PROGRAM, Scopekeeper, eventually
from tests.viewer import Viewer

from .installed import Installed
from .test_exec import RAW, logged

pytestmark = pytest.mark.systemd

Call = Callable[..., Viewer]
BY_BYTE = """
import os, sys, tty
tty.setraw(0)
for byte in "<ä中😀>".encode():
    os.write(1, bytes([byte]))
    os.read(0, 1)
os.write(1, b"\\r\\n")
"""
"""Writes one byte for each that is typed."""
MUCH = """
import os, sys
os.read(0, 1)
data = b"".join(b"%05d %s\\n" % (number, b"y" * (number % 50)) for number in range(10_000))
data += b"z" * (1 << 20) + b"\\nLAST"
while data:
    data = data[os.write(1, data):]
os.read(0, 1)
"""


def much() -> bytes:
    lines = b"".join(b"%05d %s\n" % (number, b"y" * (number % 50)) for number in range(10_000))
    return lines + b"z" * (1 << 20) + b"\nLAST"


def test_a_character_that_comes_in_pieces_is_whole_and_there_once(
    installed: Installed, keeper: Scopekeeper, session: str, viewer: Call
) -> None:
    assert installed
    whole = "<ä中😀>".encode()
    user = viewer("exec", "-s", session, "--", sys.executable, "-c", BY_BYTE)
    user.expect("<")
    run = eventually(lambda: keeper.scopes("-s", session))[0]["run"]
    follows = keeper.popen([PROGRAM, "logs", "-f", "--text", str(run)], stdout=subprocess.PIPE)
    for end in range(1, len(whole)):
        eventually(lambda end=end: bytes(user.raw) == whole[:end])
        known = whole[:end].decode(errors="ignore")
        assert keeper.call("logs", "--text", str(run)).stdout == known
        if end in (2, 4, 8):  # in the middle of each character
            later = viewer("attach", "--read-only", str(run))
            later.shows(known)
        user.type("x")
    user.expect(">")
    eventually(lambda: len(user.raw) == len(whole))
    user.type("x")
    assert user.status() == 0
    assert user.raw.startswith(whole + b"\r\n")
    later.expect("ended")
    assert later.picture()[0] == "<ä中😀>"
    assert follows.communicate(timeout=PATIENCE)[0].decode() == "<ä中😀>\n"


def test_ten_thousand_lines_and_one_of_a_mebibyte_reach_all(
    installed: Installed, keeper: Scopekeeper, session: str, viewer: Call
) -> None:
    assert installed
    user = viewer("exec", "-s", session, "--", *RAW, sys.executable, "-c", MUCH)
    run = str(eventually(lambda: keeper.scopes("-s", session))[0]["run"])
    later = viewer("attach", "--read-only", "--no-redraw", run)
    eventually(lambda: later.is_raw)
    user.type("x")
    expected = much()
    for each in (user, later):
        each.expect("LAST")
        assert each.raw == expected
    assert logged(run) == hashlib.sha256(expected).hexdigest()
    user.type("x")
    assert user.status() == 0
    assert later.status() == 0
