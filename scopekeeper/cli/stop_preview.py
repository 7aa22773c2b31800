"""What ``stop --dry-run`` prints: what a stop would end, and what it would refuse."""

from collections.abc import Iterator, Sequence
from typing import Any

from scopekeeper.cli.show import processes, safe, safe_json
from scopekeeper.cli.stop_report import launched_document
from scopekeeper.cli.table import cut
from scopekeeper.cli.users import user_fields
from scopekeeper.data import dataclass
from scopekeeper.kernel.usage import command_line
from scopekeeper.lifecycle import stop_mark
from scopekeeper.lifecycle.stop_launched import Part
from scopekeeper.quantities import written_duration
from scopekeeper.scope.model import Member, Scope

_MOST, _MOST_PIDS = 10, 5
"""Members of a scope, and processes of a member, that are listed."""
_WIDTH = 60
"""Characters of a command."""


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
        """Return what would be done, and in further lines what launched it, and what would end."""
        launched = self.part.launched
        lines = [self._done(label)]
        lines += [] if launched is None else [f"  {safe(launched.origin)}"]
        return "\n".join([*lines, *(f"    {line}" for line in self._ending())])

    def _ending(self) -> Iterator[str]:
        """Yield a line for each member that would end, or for the first ones and a count."""
        if self.outcome != "stop":
            return
        members = self._members
        for each in members[:_MOST]:
            yield safe(f"{each.name}  {_pids(each.pids)}  {_first_words(each)}")
        if len(members) > _MOST:
            more = len(members) - _MOST
            yield f"and {more} more member{'' if more == 1 else 's'}"
        strays = () if self.part.selected.member else self.part.selected.scope.strays
        if strays:
            yield f"(outside every member: {_pids(strays)})"

    @property
    def _members(self) -> tuple[Member, ...]:
        selected = self.part.selected
        if selected.member:
            return (selected.member,)
        return tuple(sorted(selected.scope.living_members, key=lambda member: member.born))

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
            f"{written_duration(round(self.part.target.grace * 1e6))} from SIGTERM to SIGKILL"
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
            "members": [
                {
                    "name": safe_json(each.name),
                    "member_id": each.member_id,
                    "pids": list(each.pids),
                    "argv": command_line(each.shown_pid),
                }
                for each in self._members
            ],
            "grace_s": self.part.target.grace,
            "problem": self.problem or None,
            "launched_by": launched_document(self.part.launched),
        }


def _pids(pids: Sequence[int]) -> str:
    more = f" and {len(pids) - _MOST_PIDS} more" if len(pids) > _MOST_PIDS else ""
    return f"pid {' '.join(map(str, pids[:_MOST_PIDS]))}{more}"


def _first_words(member: Member) -> str:
    """Return the first words of its command, or of what that has left."""
    return cut(" ".join(command_line(member.shown_pid) or ["-"]), _WIDTH)


def preview(parts: Sequence[Part]) -> list[Preview]:
    """Return what a stop of these would do; changes nothing."""
    return [
        Preview(each, stop_mark.why_not(each.target.directory, each.target.scope_directory))
        for each in parts
    ]
