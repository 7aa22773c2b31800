"""Gives scopes and members a new owner."""

from collections.abc import Sequence
from dataclasses import dataclass

from scopekeeper.kernel import cgroupfs
from scopekeeper.lifecycle import stop_mark
from scopekeeper.scope import record_parser, records
from scopekeeper.scope.model import Liveness, Member, Scope
from scopekeeper.scope.owner import LaunchOwner
from scopekeeper.scope.selection import Selected

_OWNERS = (
    "OWNER_UNIT", "OWNER_EPOCH", "OWNER_CGROUP", "OWNER_PID", "OWNER_START",
    "OWNER_NAME", "OUTER_UNIT", "OUTER_CGROUP",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Adopted:
    """What became of one member; problem is '' if it has the new owner."""

    selected: Selected
    member: Member
    problem: str


def adopt(
    selected: Sequence[Selected], owner: LaunchOwner, *, force: bool = False
) -> list[Adopted]:
    """Write the owner into the records of all living members of what is selected.

    Refused: members whose owner lives (unless force), and scopes that systemd stops together with
    a unit other than the new owner.
    """
    fields = {key: owner.fields.get(key, "") for key in _OWNERS}
    fields |= {"BOOT": owner.fields["BOOT"], "NAMESPACES": owner.fields["NAMESPACES"]}
    done = []
    for each in selected:
        members = [each.member] if each.member else each.scope.living_members
        for member in members:
            problem = _refusal(each.scope, member, owner, force=force)
            if not problem:
                problem = _write(member.directory, each.scope.directory, fields)
            done.append(Adopted(each, member, problem))
        if each.member is None and any(not a.problem for a in done if a.selected is each):
            stop_mark.change(each.scope.directory, each.scope.directory, fields)
    return done


def _refusal(scope: Scope, member: Member, owner: LaunchOwner, *, force: bool) -> str:
    if member.problem or scope.problem:
        return member.problem or scope.problem
    bound = _bound_to(scope.directory)
    if bound and bound != owner.unit:
        return f"systemd stops it together with {bound}, which cannot be changed"
    state = member.owner_state
    if force or state is None or state.liveness is not Liveness.ALIVE:
        return ""
    return f"its owner {state.owner.label} lives; --force adopts it nevertheless"


def _bound_to(directory: str) -> str:
    try:
        raw = cgroupfs.attribute(directory, records.ATTRIBUTE)
        return record_parser.scope(raw, directory.rpartition("/")[2]).bound
    except records.RecordError:
        return ""


def _write(directory: str, scope_directory: str, fields: dict[str, str]) -> str:
    # what launched it belonged to the owner before
    fields = fields | {"ORPHANED": "", "LAUNCHED_IN": "", "CONTINUES": ""}
    changed = stop_mark.change(directory, scope_directory, fields)
    return "" if changed else "it is being stopped, or is not yours to change"
