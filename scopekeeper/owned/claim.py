"""A claim: this path is to be removed when that holder is gone. Pure.

Its text form is that of ``records``. Times are microseconds since the epoch.
"""

import re
from dataclasses import dataclass, replace
from enum import Enum

from scopekeeper.kernel.mounts import is_within
from scopekeeper.scope import names, records

_ID = re.compile("[0-9a-f]{16}")
_INT, _LONG = 2**31 - 1, 2**64 - 1
_DIGITS = len(str(_LONG))
_NEEDED = ("PATH", "INODE", "DEVICE", "MOUNT", "HOLDER", "BOOT", "MADE")
ASIDE = ".scopekeeper-gone."
"""How the name begins under which a path waits, beside where it was, for its removal to be done."""


class Kind(Enum):
    """What a holder is."""

    LAUNCH = "launch"
    """A ``run`` on its way to its leaf; nothing of the command has run yet."""
    MEMBER = "member"
    SCOPE = "scope"
    NOBODY = "nobody"
    """Nothing used it when it was handed over: it is to be removed at once."""


@dataclass(frozen=True, slots=True)
class Thing:
    """What stood at a path when it was handed over."""

    device: int
    inode: int
    generation: int = 0
    """Tells one file from the next under the same inode number; 0 where there is none to read."""
    mount: str = ""
    """Where the file system that it is on was mounted."""

    def is_same(self, other: "Thing", *, same_boot: bool) -> bool:
        """Tell whether other is this very thing; devices may be numbered anew by a boot."""
        if self.inode != other.inode or (same_boot and self.device != other.device):
            return False
        return not (self.generation and other.generation) or self.generation == other.generation


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose processes may use a path."""

    kind: Kind
    boot_id: str
    namespaces: str = ""
    """The PID and cgroup namespaces in which pid and cgroup mean something, as ``pid/cgroup``."""
    cgroup: str = ""
    """The cgroup path of the member's leaf or of the scope."""
    cgroup_id: int = 0
    """The inode of that cgroup, which no later one of the same name has."""
    pid: int = 0
    start: str = ""
    """Of a launch: its process, by number and start time (field 22 of proc_pid_stat(5))."""
    whole_scope: bool = False
    """Of a launch: whether the scope is to hold the path, and not the member alone."""

    @property
    def unit(self) -> str:
        """The scope unit's name, '' where there is none yet."""
        return names.unit_of(self.cgroup)

    @property
    def leaf(self) -> str:
        """The name of the member's leaf; '' where a whole scope is meant."""
        last = self.cgroup.rpartition("/")[2]
        return last if names.parse_leaf(last) else ""

    @property
    def label(self) -> str:
        """The name that people know it by."""
        if self.leaf:
            return f"{self.unit}: {self.leaf}"
        return self.unit or f"launch {self.pid}"


@dataclass(frozen=True, slots=True)
class Claim:
    """One path and one holder; a path that has several holders has a claim of each."""

    claim_id: str
    """16 hex digits."""
    path: str
    """Absolute; bytes that are not UTF-8 as surrogate escapes."""
    thing: Thing
    holder: Holder
    made: int
    attempts: int = 0
    """How often its removal has failed."""
    problem: str = ""
    """Why, the last time."""

    @property
    def aside(self) -> str:
        """The name that it gets beside where it was, when its removal begins."""
        return ASIDE + self.claim_id

    def failed(self, problem: str) -> "Claim":
        """Return this claim after one more failure."""
        return replace(self, attempts=self.attempts + 1, problem=problem)


def raw(path: str) -> bytes:
    """Return the bytes of a path as the kernel has them."""
    return path.encode("utf-8", "surrogateescape")


def are_related(one: str, other: str) -> bool:
    """Tell whether removing one of two paths takes something of the other."""
    return is_within(one, other) or is_within(other, one)


def dumps(claim: Claim) -> bytes:
    """Write a claim."""
    thing, holder = claim.thing, claim.holder
    return records.dumps(
        {
            "PATH": claim.path,
            "DEVICE": str(thing.device),
            "INODE": str(thing.inode),
            "GENERATION": str(thing.generation or ""),
            "MOUNT": thing.mount,
            "HOLDER": holder.kind.value,
            "BOOT": holder.boot_id,
            "NAMESPACES": holder.namespaces,
            "CGROUP": holder.cgroup,
            "CGROUP_ID": str(holder.cgroup_id or ""),
            "PID": str(holder.pid or ""),
            "START": holder.start,
            "WHOLE": "1" if holder.whole_scope else "",
            "MADE": str(claim.made),
            "ATTEMPTS": str(claim.attempts or ""),
            "PROBLEM": claim.problem,
        }
    )


def loads(claim_id: str, text: bytes) -> Claim:
    """Read what dumps wrote; raises RecordError, whatever somebody else has made of it."""
    if not _ID.fullmatch(claim_id):
        raise records.RecordError(f"{claim_id[:40]!r} is no claim's name")
    fields = records.loads(text, _NEEDED)
    try:
        kind = Kind(fields["HOLDER"])
    except ValueError:
        raise records.RecordError(f"unknown holder {fields['HOLDER'][:40]!r}") from None
    thing = Thing(
        _number(fields, "DEVICE", _LONG),
        _number(fields, "INODE", _LONG),
        _number(fields, "GENERATION", _LONG),
        fields["MOUNT"],
    )
    holder = Holder(
        kind,
        fields["BOOT"],
        fields.get("NAMESPACES", ""),
        _whole(fields, "CGROUP") if fields.get("CGROUP", "") else "",
        _number(fields, "CGROUP_ID", _LONG),
        _number(fields, "PID", _INT),
        fields.get("START", ""),
        "WHOLE" in fields,
    )
    return Claim(
        claim_id,
        _whole(fields, "PATH"),
        thing,
        holder,
        _number(fields, "MADE", _LONG),
        _number(fields, "ATTEMPTS", _INT),
        fields.get("PROBLEM", ""),
    )


def _number(fields: dict[str, str], key: str, most: int) -> int:
    text = fields.get(key, "0")
    # a text of thousands of digits is no number for int() either
    if not (text.isascii() and text.isdecimal() and len(text) <= _DIGITS) or int(text) > most:
        raise _damaged(key, text)
    return int(text)


def _whole(fields: dict[str, str], key: str) -> str:
    path = fields[key]
    parts = path.split("/")
    if parts[0] or len(parts) < 2 or {"", ".", ".."}.intersection(parts[1:]) or "\0" in path:
        raise _damaged(key, path)
    return path


def _damaged(key: str, value: str) -> records.RecordError:
    return records.RecordError(f"the record is damaged: {key} is {value[:40]!r}")
