r"""The format of records, which scopes and members carry as an extended attribute.

Pure, and on the hot path of ``run``: builtin modules only. The format is that of systemd's state
files, one ``KEY=VALUE`` on each line, so that ``getfattr -n user.scopekeeper DIR`` is readable.
Line breaks and backslashes in a value are written ``\n``, ``\r`` and ``\\``. The first line is
``V=1``.

Every user of the machine can read the attribute: put nothing secret into it.
"""

from sys import intern

ATTRIBUTE = "user.scopekeeper"
LAUNCHED = "user.scopekeeper.launched"
"""The attribute of a scope into which a member was launched from another member."""
MARKS = "MARKS"
"""The field of a scope's record that says that each such launch writes LAUNCHED."""
VERSION = "1"

KINDS = ("mcp", "pty", "exec")
LIFETIMES = ("gateway", "session", "detached")

OF_SCOPE = ("SESSION", "LANE")
OF_MEMBER = ("NAME", "PID", "START")
"""Required fields of a scope's and of a member's record."""

IGNORED = ("inherited", "invalid", "incomplete")
"""Why the variable of a client does not count: in a member's record after its name."""

CHILD = "child"
"""JOINING in a member's record: PID and START are still those of the process that starts it."""
PLACED, PLACING = "placed", "placing"
"""JOINING in the record of a leaf that waits for its first process: PID and START are those of the
process that holds it. PLACING if that is not sure of its scope yet."""


class RecordError(ValueError):
    """The record cannot be parsed: it is damaged, or of a newer scopekeeper's format."""


def dumps(fields: dict[str, str]) -> bytes:
    """Return the record of the fields that are not empty."""
    lines = [f"V={VERSION}"]
    for key, value in fields.items():
        if value:
            lines.append(f"{key}={_escaped(value)}")
    lines.append("")
    return "\n".join(lines).encode("utf-8", "surrogateescape")


def loads(raw: bytes, required: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the fields of a record, unknown ones too.

    Raises RecordError, also if a required field is missing.
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
        # a keeper holds a thousand records with the same keys and mostly the same values
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
        else:  # an escaped backslash splits into an empty part and the text after it
            text += "\\" + next(parts, "")
    return text
