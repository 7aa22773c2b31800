"""The member that this process becomes, and its way into its leaf.

On the hot path of ``run``: builtin modules only.
"""

import posix
import time

from scopekeeper import launch
from scopekeeper.history import launch_ledger
from scopekeeper.kernel.proc import boottime, exists, make_cgroup, start_time, write
from scopekeeper.launch.request import Request
from scopekeeper.scope import names, records
from scopekeeper.scope.owner import LaunchOwner
from scopekeeper.scope.placement import Caller, Place

GONE = (2, 19)
"""ENOENT and ENODEV, from files of a removed cgroup; importing errno takes 0.05 ms."""

_ENTRIES = 100

JOINED, ABSENT, WAIT = "joined", "absent", "wait"
"""Outcomes of an attempt to join."""


class NewMember:
    """This process as a member, with its record.

    A child of this process is another kind of member (scopekeeper.python_api.child).
    """

    __slots__ = ("leaf", "owner", "record", "request", "scope_born", "scope_ttl", "unit")
    joining = "1"
    """The value of JOINING in its record while it is not sure of its scope."""
    always_signs = False
    """Whether its record changes once it is in its leaf."""

    def __init__(self, request: Request, owner: LaunchOwner) -> None:
        self.request = request
        self.owner = owner
        self.unit = names.unit_name(request.session, request.lane, request.run)
        self.leaf = ""
        self.scope_born = ""
        """BOOTTIME in the record of its scope: it differs between two lives of one name."""
        self.scope_ttl = ""
        self.record = {
            "NAME": request.name,
            "PID": str(posix.getpid()),
            "START": start_time("self"),
            "KIND": request.kind,
            "SAYS_KIND": "1" if "kind" in request.asked else "",
            "LIFETIME": request.lifetime,
            "STARTED": str(time.time_ns() // 1000),
            "BOOTTIME": str(boottime()),
            "LAUNCHED_IN": request.launched_in,
            "IGNORED": request.ignored,
            "CONTINUES": request.continues,
            **owner.fields,
        }

    def new_leaf(self) -> str:
        """Choose a new id for the member and return the name of its leaf."""
        member_id = posix.urandom(4).hex()
        self.record["ID"] = member_id
        self.leaf = names.leaf_name(self.request.name, member_id)
        return self.leaf

    def sign(self, directory: str) -> None:
        """Write the record again, now that the member is sure of its scope."""
        path = f"{directory}/{self.leaf}"
        posix.setxattr(path, records.ATTRIBUTE, records.dumps(self.record))

    def arrive(self, path: str, place: Place) -> None:
        """Move into the leaf at path; raises OSError, ScopekeeperError."""
        try:
            write(f"{path}/cgroup.procs", "0")
        except PermissionError as error:
            # in a login session we may not write to a common ancestor; the manager may
            if not place.manager:
                error.filename = f"{path}/cgroup.procs"
                raise
            from scopekeeper.systemd.manager import Manager

            with Manager(place.manager, place.uid) as manager:
                manager.attach(self.unit, self.leaf)

    def leave(self, path: str, caller: Caller) -> bool:  # noqa: ARG002
        """Leave the leaf at path for our former cgroup; return False if that is refused."""
        try:
            write(f"{caller.directory}/cgroup.procs", "0")
        except OSError:
            return False
        return True

    def ledger_fields(self, cgroup: str) -> dict[str, str]:
        """Return the fields for the ledger of launches; cgroup is the scope's path."""
        request = self.request
        scope = {
            "SESSION": request.session,
            "LANE": request.lane,
            "RUN": request.run,
            "SESSION_ID": request.session_id,
            "CGROUP": cgroup,
            "SCOPE_BORN": self.scope_born,
            "TTL": self.scope_ttl,
        }
        return scope | self.record

    def record_scope(self, directory: str, place: Place, bound_to: str, flags: int = 0) -> None:
        """Write the record of the scope that this member has made; raises OSError.

        The scope takes over a label that its session has got from the same owner.
        """
        label = ""
        if exists(launch_ledger.labels()):
            launch.load_later("scopekeeper.history.session_label")
            from scopekeeper.history import session_label

            label = session_label.of_launch(self.request.session, self.owner.fields)
        record = self._scope_record(bound_to, label)
        posix.setxattr(directory, records.ATTRIBUTE, record, flags)
        if label:
            cgroup = place.path(directory)
            launch_ledger.append(launch_ledger.label_line(cgroup, self.scope_born, label))

    def _scope_record(self, bound_to: str, label: str) -> bytes:
        request = self.request
        self.scope_born = self.record["BOOTTIME"]
        self.scope_ttl = str(request.durations.get("ttl", ""))
        fields = {
            "SESSION": request.session,
            "LANE": request.lane,
            "RUN": request.run,
            "SESSION_ID": request.session_id,
            "KIND": request.kind,
            "LIFETIME": request.lifetime,
            "CREATED": self.record["STARTED"],
            "BOOTTIME": self.record["BOOTTIME"],
            "BOUND": bound_to,
            "LABEL": label,
            "LABEL_TAKEN": label and "1",
            records.MARKS: "1",
            **self.owner.fields,
        }
        for key, value in (request.durations | request.limits).items():
            fields[key.upper()] = str(value)
        return records.dumps(fields)


def enter(directory: str, member: NewMember, place: Place, *, unsure: bool = False) -> bool:
    """Make the member's leaf and move in; return False if the scope went away meanwhile.

    A member that is unsure whether the scope lives has to call ``sign`` once it knows.

    Another launch may remove the new leaf as a leftover before we are inside: then make another
    one, as long as the scope exists.
    """
    for _ in range(_ENTRIES):
        leaf = member.new_leaf()
        record = member.record | {"JOINING": member.joining} if unsure else member.record
        path = f"{directory}/{leaf}"
        try:
            make_cgroup(path)
        except OSError as error:
            if error.errno in GONE:
                return False
            raise
        try:
            if record["LAUNCHED_IN"]:  # first: whoever finds the member finds it by this
                posix.setxattr(directory, records.LAUNCHED, b"1")
            posix.setxattr(path, records.ATTRIBUTE, records.dumps(record))
            member.arrive(path, place)
        except OSError as error:
            _remove(path)
            if error.errno not in GONE:
                raise
        except Exception:
            _remove(path)
            raise
        else:
            return True
    return False


def _remove(path: str) -> None:
    try:
        posix.rmdir(path)
    except OSError:
        pass
