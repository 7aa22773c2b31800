"""inotify(7): one descriptor for all watches.

The events of cgroupfs, equal on Linux 6.1, 6.12 and 6.18 (tests/cgroup/test_cgroup_notices.py):

- mkdir and rmdir: ``IN_CREATE`` and ``IN_DELETE`` on the parent's watch.
- Setting an attribute: ``IN_ATTRIB`` on the directory's own watch, without a name, and on its
  parent's, with the name.
- ``cgroup.events``, ``memory.events`` (which counts descendants too) and ``memory.events.local``:
  ``IN_MODIFY`` when a value changes. A cgroup counts as empty when its last process is a zombie,
  before that is reaped.
- A removed directory sends nothing to its own watch, neither ``IN_DELETE_SELF`` nor
  ``IN_IGNORED``, and the watch remains. So watch the parent as well, and remove every watch
  explicitly.
"""

import ctypes
import errno
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from scopekeeper.errors import LimitError
from scopekeeper.kernel import proc

IN_MODIFY = 0x2
IN_ATTRIB = 0x4
IN_CLOSE_WRITE = 0x8
IN_CLOSE_NOWRITE = 0x10
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000
IN_ONLYDIR = 0x01000000
IN_ONESHOT = 0x80000000
_IN_MASK_ADD = 0x20000000

_HEAD = struct.Struct("iIII")
_CHUNK = 65536
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ENODEV)
_ROOM = {
    errno.ENOSPC: ("no inotify watch is left", "max_user_watches", 65536),
    errno.EMFILE: ("no inotify instance is left", "max_user_instances", 512),
}


class Event(NamedTuple):
    """One event of inotify(7); name is '' if it concerns the watched file itself."""

    wd: int
    mask: int
    name: str


def decode(raw: bytes) -> list[Event]:
    """Decode the events in one read from an inotify descriptor.

    Raises ValueError on bytes that no kernel wrote.
    """
    events = []
    at = 0
    while at < len(raw):
        end = at + _HEAD.size
        if end > len(raw):
            raise ValueError("an event of inotify is cut short")
        wd, mask, _, length = _HEAD.unpack_from(raw, at)
        at = end + length
        if at > len(raw):
            raise ValueError("the name in an event of inotify is cut short")
        events.append(Event(wd, mask, os.fsdecode(raw[end:at].partition(b"\0")[0])))
    return events


@dataclass(slots=True, eq=False)
class Subscription:
    """A callback for the events of one watch; several can share a watch."""

    wd: int
    mask: int
    tell: Callable[[Event], None]


class Inotify:
    """Watches files and folders; call ``dispatch`` when ``fileno`` is readable."""

    def __init__(self, overflowed: Callable[[], None], failed: Callable[[Exception], None]) -> None:
        """Open the descriptor; raises LimitError.

        overflowed is called when events were lost; failed with the exception of a callback, after
        which the other callbacks still run.
        """
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._overflowed = overflowed
        self._failed = failed
        self._subscriptions: dict[int, tuple[Subscription, ...]] = {}
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise _error(ctypes.get_errno(), "inotify")

    def fileno(self) -> int:
        """Return the descriptor; it is readable when events are waiting."""
        return self._fd  # type: ignore[no-any-return]

    def close(self) -> None:
        """Remove every watch."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._subscriptions.clear()

    def __len__(self) -> int:
        """Count the watches."""
        return len(self._subscriptions)

    def add(self, path: str, mask: int, tell: Callable[[Event], None]) -> Subscription | None:
        """Call tell for each event of mask; return None if path does not exist.

        Raises OSError, and LimitError if the kernel's limit of watches is reached.
        """
        wd = self._libc.inotify_add_watch(self._fd, os.fsencode(path), mask | _IN_MASK_ADD)
        if wd < 0:
            number = ctypes.get_errno()
            if number in _GONE:
                return None
            raise _error(number, path)
        subscription = Subscription(wd, mask, tell)
        self._subscriptions[wd] = (*self._subscriptions.get(wd, ()), subscription)
        return subscription

    def remove(self, subscription: Subscription | None) -> None:
        """End a subscription; None and one that was removed already are fine."""
        if subscription is None:
            return
        before = self._subscriptions.get(subscription.wd, ())
        left = tuple(each for each in before if each is not subscription)
        if left:
            self._subscriptions[subscription.wd] = left
        elif before:
            del self._subscriptions[subscription.wd]
            self._libc.inotify_rm_watch(self._fd, subscription.wd)

    def dispatch(self) -> bool:
        """Read one chunk of events and call back; return False if there was none.

        What is left makes the descriptor readable again.
        """
        try:
            raw = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return False
        for event in decode(raw):
            if event.mask & IN_Q_OVERFLOW:
                self._overflowed()
            elif event.mask & IN_IGNORED:
                self._subscriptions.pop(event.wd, None)
            else:
                # the kernel assigns numbers in turn: a removed one is not reused at once
                for subscription in self._subscriptions.get(event.wd, ()):
                    if subscription.mask & event.mask and self._is_wanted(subscription):
                        try:
                            subscription.tell(event)
                        except Exception as error:  # noqa: BLE001  the other callbacks still run
                            self._failed(error)
        return True

    def _is_wanted(self, subscription: Subscription) -> bool:
        """Return whether an earlier callback for the same event has not unsubscribed it."""
        return subscription in self._subscriptions.get(subscription.wd, ())


def _error(number: int, path: str) -> Exception:
    if number not in _ROOM:
        return OSError(number, os.strerror(number), path)
    words, name, enough = _ROOM[number]
    try:
        limit = int(proc.read(f"/proc/sys/fs/inotify/{name}"))
    except (OSError, ValueError):
        limit = 0
    return LimitError(
        f"{words} for uid {os.getuid()} (the limit is {limit})",
        f"raise it: sysctl fs.inotify.{name}={max(enough, 2 * limit)}",
    )
