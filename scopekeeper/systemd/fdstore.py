"""systemd's descriptor store, which keeps the keeper's descriptors across its restarts.

A service stores descriptors with ``FDSTORE=1`` (sd_pid_notify_with_fds(3)) and gets them back
with LISTEN_FDS (sd_listen_fds(3)) after a crash, a restart or an upgrade. systemd silently drops
descriptors beyond ``FileDescriptorStoreMax=``, so this module counts them.
"""

import contextlib
import os
import socket
from collections.abc import Iterable

_FIRST = 3
"""SD_LISTEN_FDS_START."""


def inherited() -> dict[str, list[int]]:
    """Take over the descriptors that systemd passed to this process, by their names.

    Call it once, before anything else opens descriptors; a second call returns nothing.
    """
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    os.environ.pop("LISTEN_PIDFDID", None)
    if pid != str(os.getpid()) or not count.isdecimal():
        return {}
    found: dict[str, list[int]] = {}
    for number in range(int(count)):
        os.set_inheritable(_FIRST + number, False)
        name = names[number] if number < len(names) else "unknown"
        found.setdefault(name, []).append(_FIRST + number)
    return found


class DescriptorStore:
    """The store of this service; without a store, nothing is kept.

    most is the number of descriptors that fit.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._counts: dict[str, int] = {}

    @property
    def exists(self) -> bool:
        """Whether descriptors can be stored at all."""
        return self._most > 0

    @property
    def room(self) -> int:
        """How many more descriptors fit."""
        return self._most - sum(self._counts.values())

    @property
    def most(self) -> int:
        """How many fit in all (``FileDescriptorStoreMax=``)."""
        return self._most

    def known(self, name: str, count: int) -> None:
        """Count descriptors that came from the store and are still in it."""
        if count:
            self._counts[name] = count

    def put(self, name: str, descriptors: Iterable[int]) -> None:
        """Store descriptors under a name, in the order in which they come back."""
        if not self.exists:
            return
        for descriptor in descriptors:
            # FDPOLL=0 (since 246): a terminal that hung up still has output to read
            text = f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0"
            if _send(text, [descriptor]):
                self._counts[name] = self._counts.get(name, 0) + 1

    def drop(self, name: str) -> None:
        """Keep what is under a name no more."""
        if self._counts.pop(name, None) is not None:
            _send(f"FDSTOREREMOVE=1\nFDNAME={name}")


def _send(text: str, descriptors: Iterable[int] = ()) -> bool:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(address)
        socket.send_fds(sender, [text.encode()], list(descriptors))
        return True
    return False


def limit(unit_path: str) -> int:
    """Return how many descriptors the store of this service takes; 0 without a store.

    unit_path is the cgroup path of the service. systemd passes the number as ``$FDSTORE`` since
    254; older versions are asked.
    """
    if not os.environ.get("NOTIFY_SOCKET", ""):
        return 0
    said = os.environ.get("FDSTORE", "")
    if said.isdecimal():
        return int(said)
    from scopekeeper.errors import ManagerError
    from scopekeeper.systemd import calls
    from scopekeeper.systemd.units import manager_uid, unit_at

    if not unit_path:
        return 0
    try:
        kind = "user" if manager_uid(unit_path) else "system"
        return int(calls.service_property(kind, unit_at(unit_path), "FileDescriptorStoreMax"))
    except (ManagerError, ValueError):
        return 0
