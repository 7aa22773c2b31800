r"""Names: session, lane and run to one systemd unit name and back; a member to its leaf and back.

Pure, and on the hot path of ``run``: no imports.

A scope is called ``scopekeeper-<session>-<lane>[-<run>].scope``. Each field is escaped like
systemd-escape(1) does, except that ``/`` becomes ``\x2f``, so that ``-`` is always a separator. A
name longer than the 255 bytes of a unit name (systemd.unit(5)) is cut: its session then ends in
``\x00`` and a hash of the whole identity. A field with NUL is refused, so no field can contain
that mark.
"""

PREFIX = "scopekeeper-"
SUFFIX = ".scope"
UNITS = f"{PREFIX}*{SUFFIX}"
"""A glob pattern that every scope unit of ours matches."""
NAME_MAX = 255
"""Longest unit name in bytes (systemd's UNIT_NAME_MAX without its NUL); equals the kernel's limit
of a directory's name."""

SESSION_MAX = 512
LANE_MAX = 640
"""Longest session and lane in characters. A lane may be a class, a colon and a whole session."""
RUN_MAX = 512
MEMBER_MAX = 255
ID_LENGTH = 8
"""Hex digits of a member's id."""
ENTERING_SECONDS = 2.0
"""Longer than a launch takes from making its leaf to writing the record there."""
HOLD = "hold"
"""The cgroup beside the leaves for processes that hold a scope for leaves without a process yet."""

_PLAIN = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_."
CUT_MARK = "\\x00"
_HASH_LENGTH = 16
_LANE_ROOM = 64
_RUN_ROOM = 48
_LEAF_ROOM = 100
_LONGEST_CHARACTER = 12
"""Of the escapes that continue one: a character has up to four bytes."""


def check(field: str, value: str, longest: int) -> str:
    """Return value, or raise ValueError with one sentence that says what to change."""
    if not value:
        raise ValueError(f"the {field} is empty; give it a name")
    if len(value) > longest:
        raise ValueError(f"the {field} has {len(value)} characters; the most is {longest}")
    if "\0" in value:
        raise ValueError(f"the {field} has a NUL character; leave it out")
    return value


def escape(text: str) -> str:
    """Escape one field; keeps bytes that are not UTF-8 (surrogate escapes)."""
    raw = text.encode("utf-8", "surrogateescape")
    if not raw.translate(None, _PLAIN) and raw[:1] != b".":
        return text
    return "".join(
        chr(byte) if byte in _PLAIN and (at or byte != 0x2E) else f"\\x{byte:02x}"
        for at, byte in enumerate(raw)
    )


def unescape(text: str) -> str:
    """Undo escape; raises ValueError on text that escape never writes."""
    if "\\" not in text:
        return text
    head, *rest = text.split("\\")
    raw = bytearray(head.encode("ascii"))
    for part in rest:
        if part[:1] != "x" or len(part) < 3:
            raise ValueError(f"not an escaped name: {text!r}")
        raw.append(int(part[1:3], 16))
        raw += part[3:].encode("ascii")
    return raw.decode("utf-8", "surrogateescape")


def unit_name(session: str, lane: str, run: str = "") -> str:
    """Name the scope unit of an identity; an empty run is no run."""
    fields = [escape(session), escape(lane)]
    if run:
        fields.append(escape(run))
    name = PREFIX + "-".join(fields) + SUFFIX
    return name if len(name) <= NAME_MAX else _cut_name(session, lane, run, fields)


def with_suffix(word: str) -> str:
    """Return the name of a scope unit that may be written without its suffix."""
    return word if word.endswith(SUFFIX) else word + SUFFIX


def _cut_name(session: str, lane: str, run: str, fields: list[str]) -> str:
    from hashlib import sha256

    whole = f"{session}\0{lane}\0{run}".encode("utf-8", "surrogateescape")
    mark = CUT_MARK + sha256(whole).hexdigest()[:_HASH_LENGTH]
    fields[1] = _cut(fields[1], _LANE_ROOM)
    if run:
        fields[2] = _cut(fields[2], _RUN_ROOM)
    room = NAME_MAX - len(PREFIX) - len(SUFFIX) - len(mark) - sum(len(f) + 1 for f in fields[1:])
    fields[0] = _cut(fields[0], room) + mark
    return PREFIX + "-".join(fields) + SUFFIX


def _cut(escaped: str, room: int) -> str:
    """Cut an escaped field to room bytes, never inside an escape or a UTF-8 character."""
    if len(escaped) <= room:
        return escaped
    escape_at = escaped.rfind("\\", room - 3, room)
    end = escape_at if escape_at >= 0 else room
    begin = end
    while _continues(escaped, begin):
        begin -= 4
        if end - begin > _LONGEST_CHARACTER or escaped[begin : begin + 2] != "\\x":
            return escaped[:end]  # no character began: these bytes are not UTF-8
    return escaped[:begin]


def _continues(escaped: str, at: int) -> bool:
    """Return whether the escape at a position is a byte (10xxxxxx) that continues a character."""
    return escaped[at : at + 2] == "\\x" and int(escaped[at + 2 : at + 4], 16) & 0xC0 == 0x80


def parse_unit(name: str) -> tuple[str, str, str, bool] | None:
    """Read (session, lane, run, whole) from a unit name, None if it is not one of ours.

    whole is False if the name was cut: the record has the full text.
    """
    if not (name.startswith(PREFIX) and name.endswith(SUFFIX)):
        return None
    session, *rest = name[len(PREFIX) : -len(SUFFIX)].split("-")
    session, mark, _ = session.partition(CUT_MARK)
    if not session or not 1 <= len(rest) <= 2 or not all(rest):
        return None
    try:
        fields = [unescape(field) for field in (session, *rest)]
    except ValueError:
        return None
    return fields[0], fields[1], fields[2] if len(fields) > 2 else "", not mark


def unit_of(path: str) -> str:
    """Return the name of the innermost scope of ours in a cgroup path, '' if there is none."""
    return next((part for part in reversed(path.split("/")) if parse_unit(part)), "")


def leaf_name(member: str, member_id: str) -> str:
    """Name the leaf cgroup of a member; member_id is 8 hex digits."""
    return f"m-{_cut(escape(member), _LEAF_ROOM)}.{member_id}"


def parse_leaf(name: str) -> tuple[str, str] | None:
    """Read (member, member_id) from a leaf's name, None if it is not one of ours."""
    member, dot, member_id = name.rpartition(".")
    if not dot or not member.startswith("m-") or len(member_id) != ID_LENGTH:
        return None
    try:
        int(member_id, 16)
        return unescape(member[2:]), member_id
    except ValueError:
        return None


def lane_class(lane: str) -> str:
    """Return the part before the first colon: the class of ``nested:agent:x`` is ``nested``."""
    return lane.partition(":")[0]


EPHEMERAL_LANES = ("nested", "cron", "heartbeat", "subagent")
"""Lane classes whose sessions last for one run: each session id gets a scope of its own."""
