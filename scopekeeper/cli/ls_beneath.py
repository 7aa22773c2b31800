"""What ``ls`` prints beneath the row of a scope: its members, where they come from, problems."""

import os
from collections.abc import Collection, Mapping

from scopekeeper.cli.ages import age_of, idle_of
from scopekeeper.cli.ends import Ends
from scopekeeper.cli.ls_origins import Origins
from scopekeeper.cli.show import processes, safe
from scopekeeper.cli.table import cut, name_in_line, width_of, wrap
from scopekeeper.data import dataclass, field
from scopekeeper.kernel.usage import MemberUsage, command_line, usage
from scopekeeper.quantities import show_bytes, show_duration
from scopekeeper.scope.model import Member, Scope

TYPE_CHECKING = False
if TYPE_CHECKING:
    from scopekeeper.owned.scratch_sizes import Scratch


@dataclass(frozen=True, slots=True)
class Beneath:
    """What is printed beneath the rows; width is that of the terminal, if any."""

    ends: Ends
    now: int
    width: int | None
    origins: Origins
    named: Collection[str | None] | None
    """What the call names: under the row of a label is then the session's own name. None: under
    every such row."""
    scratch: "Mapping[str, Scratch]" = field(default_factory=dict)
    """The scratch folders by the cgroup paths of their members."""

    def of(self, scope: Scope, *, members: bool) -> list[str]:
        """Return the lines beneath the row of a scope."""
        return [
            *self._own_name(scope, wanted=members),
            *self._warnings(scope),
            *(self._members(scope) if members else self._came(scope)),
        ]

    def _own_name(self, scope: Scope, *, wanted: bool) -> list[str]:
        """Return a line with its session's own name if the row has a label instead."""
        if not scope.label or not (wanted or self.named is None or scope.session in self.named):
            return []
        return self.lines(safe(f"labelled; its own session is {scope.session}"))

    def _warnings(self, scope: Scope) -> list[str]:
        """Return the problems of its records, and the command that ends it."""
        lines = []
        if scope.is_unusable or scope.claims is not None:
            what, how = scope.forgery or scope.problem, scope.command_to_end(os.getuid())
            lines += self.lines(f"{safe(what)}; end it: {safe(how)}")
        for member in scope.living_members:
            if not scope.problem and member.problem:
                lines += self.lines(f"{safe(member.leaf)}: {safe(member.problem)}")
            elif member.claims:
                lines += self.lines(f"{safe(member.leaf)}: its record says {safe(member.claims)}")
        return lines

    def lines(self, text: str) -> list[str]:
        """Return a text beneath a row; on a terminal it wraps."""
        if not text:
            return []
        return wrap(text, self.width, "    ", "      ") if self.width else [f"    {text}"]

    def _came(self, scope: Scope) -> list[str]:
        return [line for text in self.origins.of_scope(scope) for line in self.lines(safe(text))]

    def _members(self, scope: Scope) -> list[str]:
        lines = []
        for member in scope.members:
            became = self.origins.became(member)
            if became:
                lines += self.lines(f"{self._name(member)}  {safe(became)}")
                continue
            argv = command_line(member.shown_pid) or ()
            lines += self._member(self._facts(scope, member), safe(" ".join(argv).strip() or "-"))
            if member.ignored:
                from scopekeeper.clients.ignored import why

                lines += self.lines(f"  {why(member.ignored)}")
            lines += [f"  {line}" for line in self.lines(safe(self.origins.of_member(member)))]
        holders = {member.holder for member in scope.members}
        for text, pids in (
            ("holding the scope for a place", [pid for pid in scope.strays if pid in holders]),
            ("outside every member", [pid for pid in scope.strays if pid not in holders]),
        ):
            if pids:
                lines += self.lines(f"({text}: {' '.join(map(str, pids))})")
        return lines

    def _member(self, facts: str, argv: str) -> list[str]:
        """Return the line of a member; on a terminal that it does not fit, its command has one."""
        line = f"    {facts}  {argv}"
        if self.width is None or width_of(line) <= self.width:
            return [line]
        return [*wrap(facts, self.width, "    ", "      "), cut(f"      {argv}", self.width)]

    def _facts(self, scope: Scope, member: Member) -> str:
        used: MemberUsage = usage(member.pids)
        ends = self.ends.words(member)
        scratch = self.scratch.get(member.cgroup)
        holds = "" if scratch is None else f"  {scratch.words}"
        until = "" if ends in ("-", "never", self.ends.words(scope)) else f", ends {ends}"
        return (
            f"{self._name(member)}  pid {member.shown_pid or '-'}  {self.ends.state(member)}{until}"
            f"  {processes(len(member.pids))}  {show_bytes(used.rss_bytes)} resident"
            f"  {show_duration(used.cpu_seconds)} CPU{holds}{_ages(member, self.now)}"
        )

    def _name(self, member: Member) -> str:
        return name_in_line(member.name, self.width) if self.width else safe(member.name)


def _ages(member: Member, now: int) -> str:
    age, idle = age_of(member, now), idle_of(member, now)
    text = "" if age is None else f"  {show_duration(age)} old"
    return text if idle is None else f"{text}, idle {show_duration(idle)}"
