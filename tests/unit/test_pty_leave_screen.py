"""Whoever leaves a run finds the cursor on a line of its own, and no line is skipped for it."""

import pytest

from scopekeeper.exec.leave_screen import to_own_line


@pytest.mark.parametrize(
    ("shown", "alternate", "skips"),
    [
        (b"", False, False),
        (b"a line\r\n", False, False),
        (b"a line\r\n\x1b[0m\x1b[?25h", False, False),
        (b"half a line", False, True),
        (b"half a line\x1b[0m", False, True),
        (b"$ \x1b[K", False, True),
        (b"\x1b[m", False, True),
        (b"\x1b[24;1Hpicture", True, False),
        (b"picture\x1b[?25h\x1b[?1049l\x1b[23;0;0t\x1b[>4;m", False, False),
        (b"picture\x1b[?1l\x1b[?1049l\x1b]2;title\x07", False, False),
        (b"picture\x1b[?2004;1049l", False, False),
        (b"picture\x1b[?1049l$ ", False, True),
        (b"picture\x1b[?1049lafter\n", False, False),
    ],
)
def test_a_line_is_begun_where_one_has_to_be(shown: bytes, alternate: bool, skips: bool) -> None:
    assert to_own_line(shown, alternate=alternate) == b"\r\n" * skips + b"\x1b[J"
