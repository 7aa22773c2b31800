"""Records what ended, when and why: in the history of the state directory, and in the journal.

If it cannot be written, the problem is returned as text and work goes on.
"""

import functools
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from scopekeeper.data import replace
from scopekeeper.errors import words
from scopekeeper.history.end import MISSED, TRIAL, End
from scopekeeper.scope.reason import Cause, Reason

_OTHERS_SECONDS = 10.0
"""How long writing another user's history may take."""


def record(ends: Sequence[End]) -> str:
    """Write ends to the history and to the journal; return the problem, '' if there is none.

    Raises nothing and may be called from any thread. Recording an end again is harmless: see
    ``end.merged``.
    """
    news, problem = keep(ends)
    tell(news)
    return problem


def keep(ends: Sequence[End], began: Sequence[End] = ()) -> tuple[list[End], str]:
    """Write the history, the first half of ``record``; return what is new, and the problem.

    began are living members, each as the end to record if the real one is missed. The trial of
    ``doctor`` is left out, whoever saw it end.
    """
    ends = [end for end in ends if (end.session, end.lane) != TRIAL]
    began = [end for end in began if (end.session, end.lane) != TRIAL]
    if not ends and not began:
        return [], ""
    try:
        from scopekeeper import state
        from scopekeeper.history.store import HistoryStore

        return HistoryStore(state.make()).write(ends, began)
    except Exception as error:  # noqa: BLE001  the caller has to go on
        return list(ends), f"the history was not written: {words(error)}"


def keep_for_users(ends: Mapping[int, Sequence[End]]) -> tuple[list[End], list[str]]:
    """Write ends, by uid, to the history of each user.

    Root writes another user's ends with that user's rights, to the journal too. Returns which of
    this user's own ends are new, and the problems.
    """
    news, problem = keep(ends.get(os.geteuid(), ()))
    problems = [problem] if problem else []
    for uid, others in ends.items():
        if uid != os.geteuid() and others:
            from scopekeeper import as_user

            (answer,) = as_user.ask([uid], functools.partial(record, others), _OTHERS_SECONDS)
            if answer.problem or answer.value:
                problems.append(f"for uid {uid}: {answer.problem or answer.value}")
    return news, problems


def note_scratch(sizes: Sequence[tuple[str, str, int]]) -> str:
    """Write the sizes that scratch folders had, by unit and member id; return the problem.

    Raises nothing, and may come before the end of a member is written, or after it.
    """
    if not sizes:
        return ""
    try:
        from scopekeeper import state
        from scopekeeper.history.store import HistoryStore

        return HistoryStore(state.make()).write((), (), sizes)[1]
    except Exception as error:  # noqa: BLE001  as above
        return f"the history was not written: {words(error)}"


def missed(leaves: Collection[str], lives: Callable[[End], bool]) -> tuple[list[End], str]:
    """Return the unseen ends of members that the history has as living, and the problem.

    leaves are the names of existing members; lives is called for the other members of this boot.
    """
    from scopekeeper import state
    from scopekeeper.history.store import HistoryStore
    from scopekeeper.kernel import proc

    try:
        living = HistoryStore(state.directory()).living()
        boot = proc.boot_id()
    except Exception as error:  # noqa: BLE001  as above
        return [], f"what ended before is not known: {words(error)}"
    now = time.time_ns() // 1000
    ends = []
    for end in living:
        if end.boot_id != boot:
            evidence = f"the machine went down while it lived: it began in boot {end.boot_id}"
            ends.append(_unseen(end, now, Reason.REBOOT, evidence))
        elif end.leaf not in leaves and not lives(end):
            ends.append(_unseen(end, now, Reason.UNKNOWN, MISSED))
    return ends, ""


def is_only_one(end: End) -> bool:
    """Return whether the history has no other member of its scope since it began; raises nothing.

    False if the history cannot be read.
    """
    from scopekeeper import state
    from scopekeeper.history.store import HistoryStore

    try:
        store = HistoryStore(state.directory())
        found = store.read(equal={"unit": end.unit}, since=end.started)
    except Exception:  # noqa: BLE001  as above
        return False
    return all((each.member_id, each.started) == (end.member_id, end.started) for each in found)


def end_of_run(run: str, pid: int | None) -> End | None:
    """Return the end of the command of a run, None if it is not recorded; raises nothing."""
    from scopekeeper import state
    from scopekeeper.history.store import HistoryStore

    try:
        found = HistoryStore(state.directory()).read(equal={"run": run})
    except Exception:  # noqa: BLE001  as above
        return None
    return next((end for end in found if end.pid == pid), None)


def causes_of(ends: Sequence[End]) -> list[Cause | None]:
    """Return for each member the cause that its stopper recorded, else None; raises nothing.

    One query of the history for all of them, by its index.
    """
    from scopekeeper import state
    from scopekeeper.history.store import HistoryStore

    try:
        known = HistoryStore(state.directory()).find([(end.member_id, end.started) for end in ends])
    except Exception:  # noqa: BLE001  as above
        known = {}
    return [_cause(known.get((end.member_id, end.started))) for end in ends]


def _cause(known: End | None) -> Cause | None:
    if known is None or known.reason in (Reason.UNKNOWN, Reason.EXITED, Reason.SIGNALLED):
        return None
    return Cause(known.reason, known.evidence)


def _unseen(end: End, ended: int, reason: Reason, evidence: str) -> End:
    return replace(end, ended=ended, reason=reason, evidence=evidence, seen=False)


def tell(ends: Sequence[End]) -> None:
    """Write ends to the journal, the second half of ``record``; journald needs longer than us."""
    if ends:
        from scopekeeper.history import journal

        journal.send(ends)
