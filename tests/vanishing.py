"""Does something right before the Nth look of this process at the file system."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

_LOOKS = ("open", "os.listdir", "os.scandir", "os.getxattr")
_waiting: list["Moment"] = []
_hooked: list[bool] = []


class Moment:
    """Counts the looks at one tree, and does something before one of them."""

    def __init__(self, top: str, number: int, act: Callable[[], None]) -> None:
        self._top, self._number, self._act = top, number, act
        self.seen = 0
        self.acted = False

    def look(self, where: object) -> None:
        """Take a look in; a descriptor was opened below the top."""
        if not isinstance(where, int) and not os.fsdecode(where).startswith(self._top):  # type: ignore[arg-type]
            return
        self.seen += 1
        if self.seen == self._number:
            _waiting.remove(self)
            self.acted = True
            self._act()
            _waiting.append(self)


def _hook(event: str, given: tuple[object, ...]) -> None:
    if _waiting and event in _LOOKS and given[0] is not None:
        _waiting[-1].look(given[0])


@contextlib.contextmanager
def before_look(top: str, number: int, act: Callable[[], None]) -> Iterator[Moment]:
    """Act before the Nth look below top in this block, if it has as many."""
    if not _hooked:
        sys.addaudithook(_hook)  # it stays, and does nothing outside of such a block
        _hooked.append(True)
    moment = Moment(top, number, act)
    _waiting.append(moment)
    try:
        yield moment
    finally:
        _waiting.remove(moment)
