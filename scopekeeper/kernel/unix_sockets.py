"""The unix sockets of this network namespace: who is connected to whom (sock_diag(7)).

pyroute2 takes 0.1 s and 12 MiB to import and runs an event loop of its own, so it is imported when
it is needed, never on the hot path, and by a daemon only in a child: ``read_in_child``.
"""

import sys
from collections.abc import Mapping

from scopekeeper.data import dataclass

_NO_MORE_TO_READ, _NO_MORE_TO_WRITE = 1, 2
"""Bits of UNIX_DIAG_SHUTDOWN (RCV_SHUTDOWN, SEND_SHUTDOWN)."""
_CHILD_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class UnixSocket:
    """One end of a connection."""

    peer: int
    """The inode of the other end; 0 if that was closed, or never connected."""
    shutdown: int = 0

    @property
    def has_no_writer(self) -> bool:
        """Whether nothing more will be read from it than is there already. Final."""
        return bool(self.shutdown & _NO_MORE_TO_READ)

    @property
    def has_no_reader(self) -> bool:
        """Whether nobody will read what is written to it. Final."""
        return bool(self.shutdown & _NO_MORE_TO_WRITE)


Sockets = Mapping[int, UnixSocket]
"""By inode."""


def read() -> dict[int, UnixSocket]:
    """Ask the kernel; nothing is known if it refuses."""
    import socket  # a list needs none of these, and they take as long as the interpreter

    from pyroute2.netlink.diag import DiagSocket
    from pyroute2.netlink.exceptions import NetlinkError

    found = {}
    try:
        with DiagSocket() as diagnosis:
            diagnosis.bind()
            for each in diagnosis.get_sock_stats(family=socket.AF_UNIX):
                inode = each.get("udiag_ino")  # an error of the kernel's is a message without it
                if inode:
                    peer = each.get_attr("UNIX_DIAG_PEER") or 0
                    found[inode] = UnixSocket(peer, each.get_attr("UNIX_DIAG_SHUTDOWN") or 0)
    except (NetlinkError, OSError):
        return {}
    return found


def read_in_child() -> dict[int, UnixSocket]:
    """Do the same in a child process; takes some 0.3 s."""
    import subprocess

    done = subprocess.run(
        [sys.executable, "-P", "-m", __spec__.name],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        cwd="/",
        timeout=_CHILD_SECONDS,
        check=True,
    )
    lines = (line.split() for line in done.stdout.decode("ascii").splitlines())
    return {int(inode): UnixSocket(int(peer), int(shutdown)) for inode, peer, shutdown in lines}


if __name__ == "__main__":
    for number, one in read().items():
        print(number, one.peer, one.shutdown)
