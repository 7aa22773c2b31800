"""Parse the records of scopes and members, which their processes can rewrite. Pure.

Every field has a type, a range and a length. One wrong field makes that record *damaged*
(RecordError), and no other. Only this file converts a record's text to numbers.

Processes cannot rename their own cgroup. If the record contradicts the name, the name is right,
and the record's identity is kept apart as ``claims``.
"""

import functools
from collections.abc import Mapping

from scopekeeper.data import dataclass
from scopekeeper.scope import names, records
from scopekeeper.scope.model import Identity, Owner
from scopekeeper.scope.placement import LAUNCHERS_LENGTH, MOST_LAUNCHERS
from scopekeeper.scope.records import KINDS, LIFETIMES, RecordError

SIZE_MAX = 32 * 1024
"""Bytes of a record. The longest that we write has four texts of some 4 KiB each."""
FIELDS_MAX = 64
"""Fields of a record, with those that only a newer version knows."""
NUMBER_MAX = 2**63 - 1
TIME_MAX = 253_402_214_400_000_000
"""Microseconds since the epoch on the last day that Python can show, in the year 9999."""
PID_MAX = 2**22
"""PID_MAX_LIMIT of Linux."""
UID_MAX = 2**32 - 2
REASON_MAX = 4096
"""Characters of the reason given for a stop."""
_NUMBER_DIGITS = 19
_SHORT, _PATH_MAX = 128, 4096
_STATES = ("stopping",)
_JOINING = ("1", records.CHILD, records.PLACED, records.PLACING)
_YES = ("1",)
_OWNER = (
    "OWNER_UNIT", "OWNER_EPOCH", "OWNER_CGROUP", "OWNER_PID", "OWNER_START", "BOOT", "NAMESPACES",
    "OUTER_UNIT", "OUTER_CGROUP", "OWNER_NAME",
)  # fmt: skip


class NewerError(RecordError):
    """The record is of a newer scopekeeper's format."""


@dataclass(frozen=True, slots=True)
class StopMark:
    """The fields that a stop writes into a record before its first signal."""

    pid: int | None
    start_time: int | None
    """Of the process that stops it, in clock ticks since boot."""
    why: str
    """The value of a ``Reason``, maybe a newer version's."""
    text: str
    asker: tuple[int, int, str, str, str] | None
    """The pid, uid, command, user and terminal of the process that requested it."""
    kill_at: int | None = None
    """When it kills what is left, in microseconds of CLOCK_BOOTTIME; only where its stopper keeps
    it."""


@dataclass(frozen=True, slots=True)
class ScopeRecord:
    """The record of a scope. Times are microseconds; None if the field is missing."""

    identity: Identity
    """The identity in the cgroup's name, not cut."""
    claims: Identity | None
    """The identity in the record if that contradicts the name."""
    session_id: str
    kind: str
    lifetime: str
    created: int
    born: int
    ttl: int | None
    grace: int | None
    bound: str
    """The unit with which systemd ends the scope."""
    owner: Owner
    idle: tuple[int, int, int] | None
    mark: StopMark | None
    label: str
    """A second name of its session, given to it while it lived; '' if there is none."""
    label_taken: bool
    """Whether it took the label over from its session when it was made."""


@dataclass(frozen=True, slots=True)
class MemberRecord:
    """The record of a member. Times are microseconds; None if the field is missing."""

    name: str
    """The name in the leaf's name, not cut."""
    claims: str
    """The name in the record if that contradicts the leaf; else ''."""
    pid: int
    start_time: int
    kind: str
    lifetime: str
    started: int
    born: int
    owner: Owner
    orphaned: int | None
    leaderless: int | None
    abandoned: int | None
    says_kind: bool
    """Whether its launch named its kind."""
    idle: tuple[int, int, int] | None
    joining: str
    waits_until: int | None
    """When its leaf is removed if no process has come; missing once one has."""
    launched_in: tuple[str, ...]
    """The members that it was launched from, each as ``UNIT/LEAF``, the nearest last."""
    continues: int
    """How many of these, the nearest ones, its own process was before."""
    mark: StopMark | None
    ignored: str
    """The variable of a client that does not count, a blank, and the reason; '' if there is none.
    """


def scope(raw: bytes | None, unit: str) -> ScopeRecord:
    """Parse the record of the scope with this unit name; raises RecordError."""
    return scope_of(load(raw, records.OF_SCOPE), unit)


def scope_of(fields: Mapping[str, str], unit: str) -> ScopeRecord:
    """Parse the loaded fields of a scope's record; raises RecordError."""
    recorded = Identity(
        _text(fields, "SESSION", names.SESSION_MAX),
        _text(fields, "LANE", names.LANE_MAX),
        _text(fields, "RUN", names.RUN_MAX),
    )
    if not recorded.session or not recorded.lane:
        raise RecordError("the record is damaged: its session or lane is empty")
    agrees = names.unit_name(recorded.session, recorded.lane, recorded.run) == unit
    return ScopeRecord(
        recorded if agrees else named(unit),
        None if agrees else recorded,
        _text(fields, "SESSION_ID", names.RUN_MAX),
        _choice(fields, "KIND", KINDS),
        _choice(fields, "LIFETIME", LIFETIMES),
        _number(fields, "CREATED", TIME_MAX) or 0,
        _number(fields, "BOOTTIME") or 0,
        _number(fields, "TTL"),
        _number(fields, "GRACE"),
        _text(fields, "BOUND", names.NAME_MAX),
        _owner_of(tuple([fields.get(key) for key in _OWNER])),
        _idle(fields),
        _mark(fields),
        _text(fields, "LABEL", names.SESSION_MAX),
        bool(_choice(fields, "LABEL_TAKEN", ("1",))),
    )


def named(unit: str) -> Identity:
    """Return the identity in a unit name, which can be cut; raises RecordError."""
    found = names.parse_unit(unit)
    if found is None:
        raise RecordError(f"{unit[:40]!r} is no name of a scope")
    return Identity(*found[:3])


def member(raw: bytes | None, leaf: str) -> MemberRecord:
    """Parse the record of the member with this leaf name; raises RecordError."""
    return member_of(load(raw, records.OF_MEMBER), leaf)


def member_of(fields: Mapping[str, str], leaf: str) -> MemberRecord:
    """Parse the loaded fields of a member's record; raises RecordError."""
    parsed = names.parse_leaf(leaf)
    if parsed is None:
        raise RecordError(f"{leaf[:40]!r} is no name of a member")
    recorded = _text(fields, "NAME", names.MEMBER_MAX)
    if not recorded:
        raise RecordError("the record is damaged: its name is empty")
    agrees = names.leaf_name(recorded, parsed[1]) == leaf
    return MemberRecord(
        recorded if agrees else parsed[0],
        "" if agrees else recorded,
        _number(fields, "PID", PID_MAX) or 0,
        _number(fields, "START") or 0,
        _choice(fields, "KIND", KINDS),
        _choice(fields, "LIFETIME", LIFETIMES),
        _number(fields, "STARTED", TIME_MAX) or 0,
        _number(fields, "BOOTTIME") or 0,
        _owner_of(tuple([fields.get(key) for key in _OWNER])),
        _number(fields, "ORPHANED"),
        _number(fields, "LEADERLESS"),
        _number(fields, "ABANDONED"),
        _choice(fields, "SAYS_KIND", _YES) == "1",
        _idle(fields),
        _choice(fields, "JOINING", _JOINING),
        _number(fields, "WAITS_UNTIL"),
        _launchers(fields),
        _number(fields, "CONTINUES", MOST_LAUNCHERS) or 0,
        _mark(fields),
        _ignored(fields),
    )


def stop_mark(raw: bytes) -> StopMark | None:
    """Parse the mark of a stop, None if there is none; raises RecordError."""
    return _mark(load(raw))


def numbers(fields: Mapping[str, str]) -> dict[str, int]:
    """Return fields that are numbers of processes; raises RecordError."""
    return {key: _number(fields, key, PID_MAX) or 0 for key in fields}


def load(raw: bytes | None, required: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the fields of a record within its bounds; raises RecordError."""
    if raw is None:
        raise RecordError("it has no record of ours")
    if len(raw) > SIZE_MAX:
        raise RecordError(f"the record is damaged: it has {len(raw)} bytes")
    try:
        fields = records.loads(raw, required)
    except RecordError as error:
        version = raw[:20].partition(b"\n")[0].removeprefix(b"V=").decode("ascii", "replace")
        if version.isdigit() and version != records.VERSION and raw.startswith(b"V="):
            raise NewerError(str(error)) from None
        raise
    if len(fields) > FIELDS_MAX:
        raise RecordError(f"the record is damaged: it has {len(fields)} fields")
    return fields


def _damaged(key: str, value: str) -> RecordError:
    return RecordError(f"the record is damaged: {key} is {value[:40]!r}")


def _number(fields: Mapping[str, str], key: str, most: int = NUMBER_MAX) -> int | None:
    """Return a number of decimal ASCII digits, None if the field is missing."""
    text = fields.get(key)
    if text is None:
        return None
    # isdecimal() accepts the digits of every script, and int() even more
    if text.isdecimal() and text.isascii() and len(text) <= _NUMBER_DIGITS:
        value = int(text)
        if value <= most:
            return value
    raise _damaged(key, text)


def _launchers(fields: Mapping[str, str]) -> tuple[str, ...]:
    text = _text(fields, "LAUNCHED_IN", LAUNCHERS_LENGTH)
    found = tuple(text.split(" ")) if text else ()
    if len(found) > MOST_LAUNCHERS:
        raise _damaged("LAUNCHED_IN", text)
    return found


def _ignored(fields: Mapping[str, str]) -> str:
    text = _text(fields, "IGNORED", _SHORT)
    variable, _, reason = text.partition(" ")
    if text and not (variable.isascii() and variable.isidentifier() and reason in records.IGNORED):
        raise _damaged("IGNORED", text)
    return text


def _text(fields: Mapping[str, str], key: str, longest: int) -> str:
    text = fields.get(key, "")
    if len(text) > longest:
        raise RecordError(f"the record is damaged: {key} has {len(text)} characters")
    if "\0" in text:
        raise RecordError(f"the record is damaged: {key} has a NUL character")
    return text


def _choice(fields: Mapping[str, str], key: str, choices: tuple[str, ...]) -> str:
    text = fields.get(key, "")
    if text and text not in choices:
        raise _damaged(key, text)
    return text


def _owner(fields: Mapping[str, str]) -> Owner:
    return Owner(
        _text(fields, "OWNER_UNIT", names.NAME_MAX),
        _text(fields, "OWNER_EPOCH", _SHORT),
        _path(fields, "OWNER_CGROUP"),
        _number(fields, "OWNER_PID", PID_MAX),
        _number(fields, "OWNER_START"),
        _text(fields, "BOOT", _SHORT),
        _text(fields, "NAMESPACES", _SHORT),
        _text(fields, "OUTER_UNIT", names.NAME_MAX),
        _path(fields, "OUTER_CGROUP"),
        _text(fields, "OWNER_NAME", _SHORT),
    )


def _path(fields: Mapping[str, str], key: str) -> str:
    """Return the path of a cgroup, '' if the field is missing."""
    path = _text(fields, key, _PATH_MAX)
    if path and (path[0] != "/" or ".." in path.split("/")):
        raise _damaged(key, path)
    return path


@functools.lru_cache(maxsize=256)
def _owner_of(texts: tuple[str | None, ...]) -> Owner:
    """Return the owner in these fields; cached, since all members of a cohort have the same."""
    fields = zip(_OWNER, texts, strict=True)
    return _owner({key: text for key, text in fields if text is not None})


def _idle(fields: Mapping[str, str]) -> tuple[int, int, int] | None:
    """Return the moment, CPU time and bytes of an IDLE mark."""
    text = fields.get("IDLE")
    if text is None:
        return None
    parts = text.split(" ")
    if len(parts) != 3:
        raise _damaged("IDLE", text)
    moment, cpu, written = (_number({"IDLE": part}, "IDLE") or 0 for part in parts)
    return moment, cpu, written


def _mark(fields: Mapping[str, str]) -> StopMark | None:
    if "STATE" not in fields:
        return None
    _choice(fields, "STATE", _STATES)
    asker_pid = _number(fields, "ASKER_PID", PID_MAX)
    asker_uid = _number(fields, "ASKER_UID", UID_MAX)
    asker = None
    if asker_pid is not None and asker_uid is not None:
        texts = [_text(fields, f"ASKER_{key}", _SHORT) for key in ("COMM", "USER", "TTY")]
        asker = (asker_pid, asker_uid, texts[0], texts[1], texts[2])
    return StopMark(
        _number(fields, "STOPPER_PID", PID_MAX),
        _number(fields, "STOPPER_START"),
        _text(fields, "WHY", _SHORT),
        _text(fields, "REASON", REASON_MAX),
        asker,
        _number(fields, "KILL_AT"),
    )
