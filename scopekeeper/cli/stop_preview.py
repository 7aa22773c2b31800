"""What ``stop --dry-run`` prints: what a stop would end, and what it would refuse."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scopekeeper.cli.show import processes, safe, safe_json
from scopekeeper.cli.stop_report import launched_document
from scopekeeper.cli.users import user_fields
from scopekeeper.lifecycle import stop_mark
from scopekeeper.lifecycle.stop_launched import Part
from scopekeeper.quantities import show_duration
from scopekeeper.scope.model import Member, Scope


@dataclass(frozen=True, slots=True)
class Preview:
    """What a stop would do to one scope or member."""

    part: Part
    problem: str
    """Why it would be refused; '' if it would not."""

    @property
    def outcome(self) -> str:
        """What the stop would do: ``refuse``, ``remove`` (nothing lives in it), or ``stop``."""
        if self.problem:
            return "refuse"
        return "stop" if self._what.lives else "remove"

    @property
    def _what(self) -> Scope | Member:
        return self.part.selected.member or self.part.selected.scope

    def sentence(self, label: str) -> str:
        """Return what would be done, in one line; a second one says what launched it."""
        launched = self.part.launched
        text = self._done(label)
        return text if launched is None else f"{text}\n  {safe(launched.origin)}"

    def _done(self, label: str) -> str:
        if self.problem:
            return f"{label}: would be skipped: {safe(self.problem)}"
        if not self._what.lives:
            return f"{label}: is empty, and would be removed"
        selected = self.part.selected
        members = selected.scope.living_members
        many = f"{len(members)} members, " if not selected.member and len(members) > 1 else ""
        return (
            f"{label}: would end {many}{processes(len(self._what.pids))}, with "
            f"{show_duration(self.part.target.grace)} from SIGTERM to SIGKILL"
        )

    @property
    def document(self) -> dict[str, Any]:
        """Its JSON object."""
        scope, member = self.part.selected.scope, self.part.selected.member
        return {
            "unit": scope.unit,
            **user_fields(scope.uid),
            "label": safe_json(scope.label) or None,
            "member": safe_json(member.name) if member else None,
            "member_id": member.member_id if member else None,
            "action": self.outcome,
            "outcome": None,
            "pids": list(self._what.pids),
            "grace_s": self.part.target.grace,
            "problem": self.problem or None,
            "launched_by": launched_document(self.part.launched),
        }


def preview(parts: Sequence[Part]) -> list[Preview]:
    """Return what a stop of these would do; changes nothing."""
    return [
        Preview(each, stop_mark.why_not(each.target.directory, each.target.scope_directory))
        for each in parts
    ]
