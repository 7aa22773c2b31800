"""The keeper's own condition, for its metrics."""

import logging
import os
from collections import Counter

from scopekeeper.keeper import notices
from scopekeeper.keeper.exec.runs import Runs
from scopekeeper.keeper.history_writer import HistoryWriter
from scopekeeper.keeper.policy_in_force import PolicyInForce
from scopekeeper.keeper.tracker import Tracker
from scopekeeper.kernel.unix_sockets import Sockets
from scopekeeper.metrics.facts import Health
from scopekeeper.users import name_of

_LEVELS = {logging.INFO: "info", logging.WARNING: "warning", logging.ERROR: "error"}


class Tally(logging.Handler):
    """Counts what a keeper logs, and the notices that nothing else counts."""

    def __init__(self) -> None:
        super().__init__()
        self.messages = dict.fromkeys(_LEVELS.values(), 0)
        self.found: Counter[type[notices.Notice]] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        """Count one message."""
        level = _LEVELS.get(record.levelno)
        if level is not None:
            self.messages[level] += 1

    def note(self, notice: notices.Notice) -> None:
        """Count one notice."""
        self.found[type(notice)] += 1


class Condition:
    """What the parts of a keeper know. Call it in the loop's thread."""

    def __init__(
        self, rules: PolicyInForce, tracker: Tracker, writer: HistoryWriter, runs: Runs
    ) -> None:
        self._rules, self._tracker, self._writer, self._runs = rules, tracker, writer, runs

    def health(self, tally: Tally, *, bus_connected: bool) -> Health:
        """Return it now."""
        return Health(
            user=name_of(os.geteuid()) or str(os.geteuid()),
            policy_valid=self._rules.is_valid,
            bus_connected=bus_connected,
            watched_scopes=len(self._tracker.tracked),
            runs=len(self._runs.live),
            unwritten_ends=self._writer.unwritten,
            orphans_found=tally.found[notices.OrphanFound],
            log_messages=dict(tally.messages),
        )

    def sockets(self) -> Sockets:
        """Return what is known of the sockets of servers; it is replaced, never changed."""
        return self._tracker.watch.sockets
