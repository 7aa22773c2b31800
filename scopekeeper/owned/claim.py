"""A claim: remove this path, or end this container, when that holder is gone. Pure.

Its text has the format of ``records``. Times are microseconds since the epoch.
"""

import json
import re
from dataclasses import dataclass, replace
from enum import Enum

from scopekeeper.kernel.mounts import is_within
from scopekeeper.owned import container as calls
from scopekeeper.scope import names, records

_ID = re.compile("[0-9a-f]{16}")
_INT, _LONG = 2**31 - 1, 2**64 - 1
_DIGITS = len(str(_LONG))
_NEEDED = ("PATH", "INODE", "DEVICE", "MOUNT", "HOLDER", "BOOT", "MADE")
ASIDE = ".scopekeeper-gone."
"""Prefix of the name under which a path awaits its removal, in its own folder."""


class Kind(Enum):
    """The kinds of holders."""

    LAUNCH = "launch"
    """A ``run`` on its way to its leaf, before the command is executed."""
    MEMBER = "member"
    SCOPE = "scope"
    NOBODY = "nobody"
    """No process used the path when it was claimed: it is due at once."""


@dataclass(frozen=True, slots=True)
class Thing:
    """The identity of the file at a path when it was claimed."""

    device: int
    inode: int
    generation: int = 0
    """Distinguishes files that reuse an inode number; 0 if the file system has none."""
    mount: str = ""
    """The mount point of its file system."""

    def is_same(self, other: "Thing", *, same_boot: bool) -> bool:
        """Return whether other is the same file; a boot can renumber devices."""
        if self.inode != other.inode or (same_boot and self.device != other.device):
            return False
        return not (self.generation and other.generation) or self.generation == other.generation


@dataclass(frozen=True, slots=True)
class Holder:
    """The processes that may use a path."""

    kind: Kind
    boot_id: str
    namespaces: str = ""
    """The PID and cgroup namespaces in which pid and cgroup are valid, as ``pid/cgroup``."""
    cgroup: str = ""
    """The cgroup path of the member's leaf or of the scope."""
    cgroup_id: int = 0
    """The inode of that cgroup; a later one of the same name has another."""
    pid: int = 0
    start: str = ""
    """Of a launch: the start time of its process (field 22 of proc_pid_stat(5))."""
    whole_scope: bool = False
    """Of a launch: whether the scope will hold the path, not the member alone."""

    @property
    def unit(self) -> str:
        """The scope unit's name, '' if it has none yet."""
        return names.unit_of(self.cgroup)

    @property
    def leaf(self) -> str:
        """The name of the member's leaf; '' for a whole scope."""
        last = self.cgroup.rpartition("/")[2]
        return last if names.parse_leaf(last) else ""

    @property
    def label(self) -> str:
        """Its name for people."""
        if self.leaf:
            return f"{self.unit}: {self.leaf}"
        return self.unit or f"launch {self.pid}"


@dataclass(frozen=True, slots=True)
class Container:
    """How to reach the container of a claim."""

    program: str
    """The absolute path of docker or podman."""
    reach: tuple[str, ...]
    """The options before its subcommand."""
    environment: tuple[tuple[str, str], ...]
    removes: bool
    """Whether it is removed, or only stopped."""


NO_FILE = Thing(0, 0, 0, "/")
"""What a claim of a container has in place of a file."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One path and one holder; a path with several holders has one claim for each."""

    claim_id: str
    """16 hex digits."""
    path: str
    """Absolute; bytes that are not UTF-8 as surrogate escapes. Of a container: its program."""
    thing: Thing
    holder: Holder
    made: int
    attempts: int = 0
    """Failed removals so far."""
    problem: str = ""
    """Why the last one failed."""
    container: Container | None = None
    """Set if the claim is about a container that has its id as a label, and about no path."""
    scratch_max: int | None = None
    """Set if the path is the scratch folder of its member: the size in bytes above which that is
    reported, 0 for none."""

    @property
    def is_scratch(self) -> bool:
        """Whether the path was made for its member, as its TMPDIR."""
        return self.scratch_max is not None

    @property
    def title(self) -> str:
        """What it is about, for people."""
        return self.path if self.container is None else f"container of {self.path}"

    @property
    def aside(self) -> str:
        """Its name in its own folder once its removal has begun."""
        return ASIDE + self.claim_id

    def failed(self, problem: str) -> "Claim":
        """Return this claim after one more failure."""
        return replace(self, attempts=self.attempts + 1, problem=problem)


def raw(path: str) -> bytes:
    """Return a path's bytes as in the kernel."""
    return path.encode("utf-8", "surrogateescape")


def containers_differ(one: Claim, other: Claim) -> bool:
    """Return whether one of two claims is about a container, which no other claim is about."""
    return one.container is not None or other.container is not None


def are_related(one: str, other: str) -> bool:
    """Return whether removing one of two paths affects the other."""
    return is_within(one, other) or is_within(other, one)


def dumps(claim: Claim) -> bytes:
    """Return a claim as text."""
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
            "CONTAINER": _container_text(claim.container),
            "SCRATCH_MAX": "" if claim.scratch_max is None else str(claim.scratch_max),
        }
    )


def loads(claim_id: str, text: bytes) -> Claim:
    """Parse a claim; raises RecordError on any other text."""
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
        _container(fields) if "CONTAINER" in fields else None,
        _number(fields, "SCRATCH_MAX", _LONG) if "SCRATCH_MAX" in fields else None,
    )


def _container_text(container: Container | None) -> str:
    if container is None:
        return ""
    return json.dumps([container.removes, list(container.reach), dict(container.environment)])


def _container(fields: dict[str, str]) -> Container:
    """Return a container that only docker or podman is called for, with options that are known."""
    text, program = fields["CONTAINER"], _whole(fields, "PATH")
    if program.rpartition("/")[2] not in calls.PROGRAMS:
        raise _damaged("PATH", program)
    try:
        match json.loads(text):
            case [bool(removes), list(reach), dict(environment)] if _is_known(
                program, reach, environment
            ):
                return Container(program, tuple(reach), tuple(environment.items()), removes)
    except (ValueError, RecursionError):
        pass
    raise _damaged("CONTAINER", text)


def _is_known(program: str, reach: list[object], environment: dict[str, object]) -> bool:
    """Return whether a call with these options and variables only chooses the containers seen."""
    words = [word for word in (*reach, *environment.values()) if isinstance(word, str)]
    if len(words) != len(reach) + len(environment) or any("\0" in word for word in words):
        return False
    options = words[: len(reach)]
    call = calls.read([program, *options, "run"])
    return call is not None and call.reach == options and {*environment} <= {*calls.VARIABLES}


def _number(fields: dict[str, str], key: str, most: int) -> int:
    text = fields.get(key, "0")
    # int() refuses thousands of digits
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
