"""Ctrl-C during a stop: what was begun of it, and what still lives in its targets.

Nothing undoes a stop: its mark stays in the record, so that whoever reconciles next finishes it.
"""

import contextlib
from collections.abc import Iterator, Sequence

from scopekeeper.kernel import cgroupfs
from scopekeeper.lifecycle.stop_target import Result, Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class _Marked(Protocol):
        @property
        def result(self) -> Result: ...


class StopInterruptedError(KeyboardInterrupt):
    """A stop was interrupted; begun has what it had found by then of each target that it marked."""

    def __init__(self, begun: Sequence[Result]) -> None:
        super().__init__("a stop was interrupted")
        self.begun = tuple(begun)


@contextlib.contextmanager
def noting(held: "Sequence[_Marked]") -> Iterator[None]:
    """Turn a KeyboardInterrupt into StopInterruptedError; held has what is marked by then."""
    try:
        yield
    except KeyboardInterrupt:
        raise StopInterruptedError([each.result for each in held]) from None


def living(targets: Sequence[Target]) -> int:
    """Return how many processes live in these targets now."""
    return len({pid for target in targets for pid in cgroupfs.processes(target.directory)})
