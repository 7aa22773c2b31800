"""What ``why`` is asked about: a word, and the options that narrow it; found in each source."""

import re
from dataclasses import dataclass, replace

from scopekeeper.cli import escaped, unseen
from scopekeeper.cli.still_running import Running, running
from scopekeeper.history.end import End
from scopekeeper.history.store import HistoryStore
from scopekeeper.kernel.proc import mount_point
from scopekeeper.lifecycle.escaped import Escaped
from scopekeeper.scope import names
from scopekeeper.scope.launched import Launched, look_up
from scopekeeper.scope.nearby import about
from scopekeeper.scope.reason import Reason
from scopekeeper.scope.selection import Selector
from scopekeeper.scope.snapshot import Reader

_KEYS = ("session", "lane", "run", "session_id", "name")
"""The fields of a selector that the history has too."""


@dataclass(frozen=True, slots=True)
class Target:
    """A word, '' for none, and a selector; only its keys count."""

    word: str
    selector: Selector

    @property
    def keys(self) -> dict[str, str]:
        """The wanted values of fields, by the names of those of an end."""
        values = {key: getattr(self.selector, key) for key in _KEYS}
        return {key: value for key, value in values.items() if value is not None}

    @property
    def _about(self) -> str:
        """The word as the history has it: of a leaf, the member's id."""
        leaf = names.parse_leaf(self.word)
        return leaf[1] if leaf else self.word

    @property
    def shown(self) -> str:
        """Return it as the user gave it."""
        return " ".join([*([self.word] if self.word else []), *self.keys.values()])

    def read(self, store: HistoryStore, limit: int | None) -> list[End]:
        """Return the newest ends, the oldest first; raises HistoryError."""
        found = store.read(about=self._about or None, equal=self.keys, limit=limit)
        ends = {(end.member_id, end.started): end for end in found}
        for end in found:  # grows: a process can go on more than once
            following = _following(end)
            for each in store.read(about=following, limit=1) if following else ():
                if ends.setdefault((each.member_id, each.started), each) is each:
                    found.append(each)
        return sorted(ends.values(), key=lambda end: end.ended)

    def running(self, uid: int | None) -> list[Running]:
        """Return the living members."""
        return running(self.word, self.selector, uid)

    def pending(self) -> list[End]:
        """Return the ends that a running keeper has not recorded yet."""
        return unseen.pending(self._about, self.keys)

    def escaped(self, uid: int | None) -> list[Escaped]:
        """Return what has left its scope and lives."""
        if self.keys.keys() - {"session", "lane"}:
            return []
        return escaped.about(self.word, self.selector, uid)

    def launched(self, uid: int | None) -> list[Launched]:
        """Return what was launched from there, runs, and is no other name of it."""
        try:
            words = (self.word,) if self.word else ()
            named_here = about(words, self.selector, members=True)
            snapshot = Reader(mount_point()).snapshot(uid=uid, about=named_here)
        except LookupError:
            return []
        named, _ = look_up(snapshot, words, self.selector)
        return [each for each in named.launched(snapshot) if each.member.lives and not each.goes_on]

    def parts(self) -> "Target | None":
        """Return the target that ``SESSION/MEMBER`` stands for; None if it is none.

        A key may have slashes too: the last one counts, and only if the whole word is unknown.
        """
        session, _, name = self.word.rpartition("/")
        if not (session and name) or self.keys.keys() & {"session", "name"}:
            return None
        return Target("", replace(self.selector, session=session, name=name))


_FOLLOWING = re.compile(r" \((m-\S+\.[0-9a-f]{8}) in ")
"""The leaf of the member as which a process went on, in the evidence."""


def _following(end: End) -> str:
    """Return the id of the member as which the process of this one went on; '' if it did not."""
    found = _FOLLOWING.search(end.evidence) if end.reason is Reason.CONTINUED else None
    leaf = names.parse_leaf(found[1]) if found else None
    return leaf[1] if leaf else ""
