"""What ``stop --dry-run`` prints: what a stop would end, and what it would refuse."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scopekeeper.cli.show import processes, safe, safe_json
from scopekeeper.cli.users import user_fields
from scopekeeper.lifecycle import stop_mark
from scopekeeper.lifecycle.stop_target import Target
from scopekeeper.quantities import show_duration
from scopekeeper.scope.model import Member, Scope
from scopekeeper.scope.selection import Selected


@dataclass(frozen=True, slots=True)
class Preview:
    """What a stop would do to one scope or member."""

    selected: Selected
    target: Target
    problem: str
    """Why it would be refused; '' if it would not."""

    @property
    def outcome(self) -> str:
        """What the stop would do: ``refuse``, ``remove`` (nothing lives in it), or ``stop``."""
        if self.problem:
            return "refuse"
        return "stop" if self._part.lives else "remove"

    @property
    def _part(self) -> Scope | Member:
        return self.selected.member or self.selected.scope

    def sentence(self, label: str) -> str:
        """Return what would be done, in one line."""
        if self.problem:
            return f"{label}: would be skipped: {safe(self.problem)}"
        if not self._part.lives:
            return f"{label}: is empty, and would be removed"
        members = self.selected.scope.living_members
        many = f"{len(members)} members, " if not self.selected.member and len(members) > 1 else ""
        return (
            f"{label}: would end {many}{processes(len(self._part.pids))}, with "
            f"{show_duration(self.target.grace)} from SIGTERM to SIGKILL"
        )

    @property
    def document(self) -> dict[str, Any]:
        """Its JSON object."""
        scope, member = self.selected.scope, self.selected.member
        return {
            "unit": scope.unit,
            **user_fields(scope.uid),
            "member": safe_json(member.name) if member else None,
            "member_id": member.member_id if member else None,
            "action": self.outcome,
            "outcome": None,
            "pids": list(self._part.pids),
            "grace_s": self.target.grace,
            "problem": self.problem or None,
        }


def preview(selected: Sequence[Selected], targets: Sequence[Target]) -> list[Preview]:
    """Return what a stop of these targets would do; changes nothing."""
    return [
        Preview(each, target, stop_mark.why_not(target.directory, target.scope_directory))
        for each, target in zip(selected, targets, strict=True)
    ]
