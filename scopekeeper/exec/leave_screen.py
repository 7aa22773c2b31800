"""Moves the cursor to a line of its own when a run's screen is left. Pure."""

import re

KEPT = 4096
"""Bytes of the last output that are read."""
_BELOW = b"\x1b[J"
_LEAVES = re.compile(rb"\x1b\[\?(?:\d+;)*(?:47|1047|1049)(?:;\d+)*l")
_SEQUENCE = re.compile(
    rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])"
)


def to_own_line(shown: bytes, *, alternate: bool) -> bytes:
    """Return what moves the cursor to a line of its own, below the output of the run.

    shown is the end of that output; alternate is whether the alternate screen is about to be left.
    Leaving that one restores the cursor, below the command line that started the program, so no
    line is skipped then.
    """
    if alternate or not shown:
        return _BELOW
    *_, left = (None, *_LEAVES.finditer(shown))
    text = _SEQUENCE.sub(b"", shown[left.end() :] if left else shown)
    if text.endswith(b"\n") or (left and not text):
        return _BELOW
    return b"\r\n" + _BELOW
