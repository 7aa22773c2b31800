"""The lines of the launch ledger that launches and stops write: one for each member.

Other programs of the same user can write lines too. Each is read typed and bounded. For the form of
a line see scopekeeper.history.launch_ledger.
"""

import contextlib
import time
from collections.abc import Collection, Iterator, Sequence

from scopekeeper.data import dataclass, replace
from scopekeeper.history.end import BETWEEN_LOOKS, End
from scopekeeper.kernel import cgroupfs
from scopekeeper.kernel.proc import namespaces, read, runs
from scopekeeper.lifecycle import label_lines, stop_mark, time_limit
from scopekeeper.lifecycle.time_limit import TimeLimit
from scopekeeper.scope import names, record_parser, records
from scopekeeper.scope.model import Owner
from scopekeeper.scope.reason import Cause, Reason

_ID = b"\0ID="
_CONTINUES = b"\0CONTINUES="
SETTLED_SECONDS = 10.0
"""How long a launch may take from opening the file to writing its line."""


@dataclass(frozen=True, slots=True)
class Line:
    """One launch, or one member that a stop was about to end."""

    raw: bytes
    end: End
    leaf: str
    """The leaf's path in the cgroup2 hierarchy."""
    owner: Owner
    cause: Cause | None
    start_time: int
    """Of its process, in clock ticks since boot; 0 in the line of a stop."""
    earlier: str
    """The member that its process was just before, as ``UNIT/LEAF``; '' if it was none."""
    scope: label_lines.Key = ("", "")
    """The life of its scope; in the line of a stop, of no scope."""
    limit: TimeLimit | None = None
    """That of its scope."""

    @property
    def key(self) -> str:
        """Return how records name it: ``UNIT/LEAF``."""
        return "/".join(self.leaf.rsplit("/", 2)[1:])

    def is_on_its_way(self) -> bool:
        """Return whether its process has just left its leaf, maybe to go on as another member."""
        age = time.time() - self.end.started / 1e6
        if not (self.start_time and 0 <= age < SETTLED_SECONDS):
            return False
        with contextlib.suppress(OSError):
            return runs(self.end.pid or 0, self.start_time)
        return False


def over(lines: Sequence[Line], mount: str, continued: Collection[str]) -> list[Line]:
    """Return the lines of members whose leaf is empty or gone; looks at each leaf once.

    A leaf of another container is invisible from here, and is not over. continued are the keys of
    members that went on as others.
    """
    here = namespaces()
    visible = [each for each in lines if each.owner.namespaces == here]
    is_empty = {leaf: _is_empty(f"{mount}{leaf}") for leaf in {each.leaf for each in visible}}
    return [
        each
        for each in visible
        if is_empty[each.leaf] and (each.key in continued or not each.is_on_its_way())
    ]


def _is_empty(leaf: str) -> bool:
    try:
        return "populated 0" in read(f"{leaf}/cgroup.events")
    except OSError as error:
        return error.errno in cgroupfs.GONE


def parsed(
    raw: bytes, labels: label_lines.Labels = label_lines.NONE, part: bytes = b""
) -> Iterator[Line]:
    """Yield the lines that have this part, with the labels of their scopes."""
    for each in raw.split(b"\n"):
        if 0 < len(each) <= record_parser.SIZE_MAX and part in each:
            with contextlib.suppress(records.RecordError):
                found = _parse(each)
                label = labels.get(found.scope) if not found.end.label else None
                if label is not None and label.label:
                    end = replace(found.end, label=label.label)
                    found = replace(found, end=end)
                yield found


def split(raw: bytes, living: Collection[str]) -> tuple[list[bytes], bytes]:
    """Return the lines of members with these ids, unparsed, and all others as they are.

    A line that says what its process was before is among the others.
    """
    if not living:
        return [], raw
    alive: list[bytes] = []
    others: list[bytes] = []
    for each in raw.split(b"\n"):
        is_alive = _id_of(each) in living and _CONTINUES not in each
        (alive if is_alive else others).append(each)
    return alive, b"\n".join(others)


def of_members(raw: bytes, ids: Collection[str]) -> bytes:
    """Return the lines of members with these ids, unparsed."""
    return b"\n".join(each for each in raw.split(b"\n") if _id_of(each) in ids)


def part_of(key: str, value: str) -> bytes:
    """Return what a line has in it if a field has this value."""
    return records.dumps({key: value}).split(b"\n")[1]


def _id_of(line: bytes) -> str:
    """Return the id of the member that a line is about; '' if it has none, or is too long."""
    if len(line) > record_parser.SIZE_MAX:
        return ""
    return line.partition(_ID)[2].partition(b"\0")[0].decode("ascii", "replace")


def _parse(line: bytes) -> Line:
    """Read a line; raises RecordError."""
    raw = line.replace(b"\0", b"\n") + b"\n"
    fields = record_parser.load(raw, (*records.OF_MEMBER, *records.OF_SCOPE, "ID", "CGROUP"))
    scope, leaf = fields["CGROUP"], names.leaf_name(fields["NAME"], fields["ID"])
    unit = scope.rpartition("/")[2]
    if not scope.startswith("/") or ".." in scope.split("/"):
        raise records.RecordError(f"{scope[:40]!r} is no cgroup")
    whole, member = record_parser.scope_of(fields, unit), record_parser.member_of(fields, leaf)
    owner = member.owner
    end = End(
        member_id=fields["ID"],
        started=member.started,
        ended=0,
        session=whole.identity.session,
        lane=whole.identity.lane,
        name=member.name,
        reason=Reason.UNKNOWN,
        evidence=BETWEEN_LOOKS,
        session_id=whole.session_id,
        run=whole.identity.run,
        kind=member.kind,
        lifetime=member.lifetime,
        unit=unit,
        pid=member.pid or None,
        owner="" if owner.label == "-" else owner.label,
        boot_id=owner.boot_id,
        seen=False,
        label=whole.label,
    )
    why = None if member.mark is None else stop_mark.stated(member.mark)
    earlier = member.launched_in[-1] if member.continues and member.launched_in else ""
    born = fields.get("SCOPE_BORN", "")
    limit = time_limit.of_launch(scope, whole.ttl, born, member.started, member.born)
    return Line(
        line, end, f"{scope}/{leaf}", owner, why, member.start_time, earlier, (scope, born), limit
    )


def fields_of(end: End) -> dict[str, str]:
    """Return an end as the fields of a line; the inverse of _parse."""
    return {
        "ID": end.member_id,
        "NAME": end.name,
        "PID": str(end.pid or 0),
        "START": "0",
        "STARTED": str(end.started),
        "SESSION": end.session,
        "LANE": end.lane,
        "SESSION_ID": end.session_id,
        "RUN": end.run,
        "KIND": end.kind,
        "LIFETIME": end.lifetime,
        "LABEL": end.label,
        "BOOT": end.boot_id,
        **_owner(end.owner),
    }


def _owner(label: str) -> dict[str, str]:
    pid = label.removeprefix("pid ")
    return {"OWNER_UNIT": label} if pid == label else {"OWNER_PID": pid}
