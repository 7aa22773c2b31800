"""Where the user's terminal stands when a run is left. Pure."""

import re

KEPT = 4096
"""Bytes that are looked at, the last that were shown."""
_BELOW = b"\x1b[J"
_LEAVES = re.compile(rb"\x1b\[\?(?:\d+;)*(?:47|1047|1049)(?:;\d+)*l")
_SEQUENCE = re.compile(
    rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])"
)


def farewell(shown: bytes, *, alternate: bool) -> bytes:
    """Return what brings the cursor to a line of its own, below what the run has written.

    shown is the last of that, alternate whether the alternate screen is about to be left. Who
    leaves that one has the cursor back where it was: below the command line that called him. No
    line may be skipped there, as none is without us.
    """
    if alternate or not shown:
        return _BELOW
    *_, left = (None, *_LEAVES.finditer(shown))
    text = _SEQUENCE.sub(b"", shown[left.end() :] if left else shown)
    if text.endswith(b"\n") or (left and not text):
        return _BELOW
    return b"\r\n" + _BELOW
