r"""Records: what a scope and a member say of themselves, as an extended attribute.

Pure, and on the hot path of ``run``: it imports nothing that would have to be loaded. The form is
that of systemd's own state files, one ``KEY=VALUE`` a line, so that
``getfattr -n user.scopekeeper DIR`` is readable. Line breaks and backslashes in a value are written
``\n``, ``\r`` and ``\\``. The first line is ``V=1``.

Every user of the machine can read the attribute: nothing secret belongs in it.
"""

from sys import intern

ATTRIBUTE = "user.scopekeeper"
VERSION = "1"

KINDS = ("mcp", "pty", "exec")
LIFETIMES = ("gateway", "session", "detached")

OF_SCOPE = ("SESSION", "LANE")
OF_MEMBER = ("NAME", "PID", "START")
"""What the record of a scope and of a member has to have."""

CHILD = "child"
"""As JOINING in a member's record: PID and START are still those of who is starting it."""


class RecordError(ValueError):
    """The record cannot be understood: damaged, or written by a newer scopekeeper."""


def dumps(fields: dict[str, str]) -> bytes:
    """Write the fields that are not empty."""
    lines = [f"V={VERSION}"]
    for key, value in fields.items():
        if value:
            lines.append(f"{key}={_escaped(value)}")
    lines.append("")
    return "\n".join(lines).encode("utf-8", "surrogateescape")


def loads(raw: bytes, required: tuple[str, ...] = ()) -> dict[str, str]:
    """Read what dumps wrote; keys that are not known are kept.

    Raises RecordError, also where a required key is missing.
    """
    lines = raw.decode("utf-8", "surrogateescape").split("\n")
    if lines[0] != f"V={VERSION}":
        if lines[0].startswith("V=") and lines[0][2:].isdigit():
            raise RecordError(
                f"the record has version {lines[0][2:20]}, this program knows {VERSION}"
            )
        raise RecordError("the record is damaged: it does not begin with its version")
    if lines.pop() != "":
        raise RecordError("the record is damaged: its last line is not whole")
    fields = {}
    for line in lines[1:]:
        key, equals, value = line.partition("=")
        if not equals or not key or key in fields:
            raise RecordError(f"the record is damaged: {line[:40]!r}")
        # the keys and most values are those of many records, of which a keeper holds a thousand
        fields[intern(key)] = intern(_unescaped(value) if "\\" in value else value)
    for key in required:
        if key not in fields:
            raise RecordError(f"the record is damaged: it has no {key}")
    return fields


def _escaped(value: str) -> str:
    if "\\" in value or "\n" in value or "\r" in value:
        return value.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return value


def _unescaped(value: str) -> str:
    parts = iter(value.split("\\"))
    text = next(parts)
    for part in parts:
        if part:
            letter = {"n": "\n", "r": "\r"}.get(part[0])
            if letter is None:
                raise RecordError(f"the record is damaged: {value[:40]!r}")
            text += letter + part[1:]
        else:  # an escaped backslash splits into an empty part and what follows it
            text += "\\" + next(parts, "")
    return text
