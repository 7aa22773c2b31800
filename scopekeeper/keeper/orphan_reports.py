"""Reports each member that has lost its owner once."""

from collections.abc import Callable

from scopekeeper.keeper.notices import OrphanFound
from scopekeeper.lifecycle.plan import Action, Verdict


class OrphanReports:
    """Calls report with each of them."""

    def __init__(self, report: Callable[[OrphanFound], None]) -> None:
        self._report = report
        self._reported: set[tuple[str, str]] = set()

    def note(self, action: Action) -> None:
        """Report the members that an action is about, if they are orphans."""
        if action.verdict is not Verdict.ORPHAN:
            return
        members = action.scope.living_members if action.member is None else (action.member,)
        for member in members:
            if (action.scope.directory, member.leaf) not in self._reported:
                self._reported.add((action.scope.directory, member.leaf))
                self._report(OrphanFound(action.scope, member, action.evidence))

    def forget(self, directory: str) -> None:
        """Forget a scope that is gone."""
        self._reported = {each for each in self._reported if each[0] != directory}
