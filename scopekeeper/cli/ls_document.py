"""The JSON objects of ``ls``."""

import os
from collections.abc import Mapping

from scopekeeper.cli.ages import age_of, idle_of
from scopekeeper.cli.ends import Ends
from scopekeeper.cli.ls_rows import owners
from scopekeeper.cli.ls_scratch import scratch_fields
from scopekeeper.cli.show import safe_json
from scopekeeper.cli.users import user_fields
from scopekeeper.kernel.usage import command_line
from scopekeeper.owned.scratch_sizes import Scratch
from scopekeeper.scope.launched import key_of
from scopekeeper.scope.model import Identity, Member, Owner, Scope

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def document(
    scope: Scope,
    state: str,
    ends: Ends,
    now: int,
    went_on: Mapping[str, tuple[Scope, Member]],
    title: str,
    scratch: Mapping[str, Scratch],
) -> "dict[str, Any]":
    """Return the JSON object of a scope; now is in microseconds of CLOCK_BOOTTIME.

    went_on has by key the members whose process goes on, with the one that it goes on as. title is
    that of the session, '' if it has none. scratch has the folders of members by their cgroups.
    """
    return {
        "unit": scope.unit,
        "cgroup": scope.cgroup,
        **user_fields(scope.uid),
        "session": safe_json(scope.session),
        "title": safe_json(title) or None,
        "label": safe_json(scope.label) or None,
        "session_id": scope.session_id or None,
        "lane": safe_json(scope.lane),
        "run": scope.run or None,
        "kind": scope.kind or None,
        "lifetime": scope.lifetime or None,
        "state": state,
        "problem": safe_json(scope.problem or scope.forgery) or None,
        "claims": None if scope.claims is None else _identity_document(scope.claims),
        "ended_by": scope.command_to_end(os.getuid()),
        "owner": owner_document(scope.owner),
        "owners": safe_json(owners(scope)),
        "created": scope.created / 1e6 if scope.created else None,
        "age_s": round(scope.age, 3),
        **ends.document(scope),
        "processes": len(scope.pids),
        "memory_bytes": scope.memory_bytes,
        "cpu_usec": scope.cpu_usec,
        "members": [
            _member_document(
                member, ends, now, went_on.get(key_of(member.directory)), scratch.get(member.cgroup)
            )
            for member in scope.members
        ],
    }


def _identity_document(identity: Identity) -> "dict[str, Any]":
    return {
        "session": safe_json(identity.session),
        "lane": safe_json(identity.lane),
        "run": safe_json(identity.run) or None,
    }


def _member_document(
    member: Member,
    ends: Ends,
    now: int,
    following: tuple[Scope, Member] | None,
    scratch: Scratch | None,
) -> "dict[str, Any]":
    went_on = following if not member.lives else None
    return {
        "name": safe_json(member.name),
        "id": member.member_id,
        "cgroup": member.cgroup,
        "pid": member.pid,
        "pids": list(member.pids),
        "state": "continued" if went_on else ends.state(member),
        "continued_as": None if went_on is None else _following_document(*went_on),
        "launched_in": [safe_json(key) for key in member.launched_in],
        "earlier": [safe_json(key) for key in member.earlier],
        "problem": safe_json(member.problem) or None,
        "claims": safe_json(member.claims) or None,
        "processes": len(member.pids),
        "argv": command_line(member.pid if member.leader_lives else None),
        "started": member.started / 1e6 if member.started else None,
        "age_s": age_of(member, now),
        "idle_s": idle_of(member, now),
        **ends.document(member),
        "owner": owner_document(member.owner_state.owner) if member.owner_state else None,
        "ignored": _ignored_document(member.ignored),
        **scratch_fields(scratch),
    }


def _ignored_document(ignored: str) -> dict[str, str] | None:
    """Return the variable of a client that does not name the session, and why."""
    variable, _, reason = ignored.partition(" ")
    return {"variable": variable, "reason": reason} if ignored else None


def _following_document(scope: Scope, member: Member) -> "dict[str, Any]":
    """Return the JSON object of the member that another one's process goes on as."""
    return {
        "unit": scope.unit,
        **_identity_document(scope.identities[0]),
        "member": safe_json(member.name),
        "member_id": member.member_id,
    }


def owner_document(owner: Owner) -> "dict[str, Any]":
    """Return the JSON object of an owner."""
    return {
        "unit": owner.unit or None,
        "epoch": owner.epoch or None,
        "pid": owner.pid,
        "name": safe_json(owner.name) or None,
        "start_time": owner.start_time,
        "boot_id": owner.boot_id or None,
    }
