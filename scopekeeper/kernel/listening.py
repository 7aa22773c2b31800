"""The sockets that wait for somebody: TCP, UDP and unix, of this network namespace (sock_diag(7)).

Who holds one is read from the descriptors of processes. The kernel also knows the cgroup in which
an internet socket was made (INET_DIAG_CGROUP_ID, from Linux 5.8 on): that names its maker where
descriptors cannot be read, or another process holds it by now.
"""

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_LISTEN, _UNCONNECTED = 10, 7
"""States of a socket: of TCP and unix ones that listen, of UDP and unix ones with an address."""
_DATAGRAMS = 2
_INTERNET = (
    (socket.AF_INET, socket.IPPROTO_TCP, _LISTEN),
    (socket.AF_INET6, socket.IPPROTO_TCP, _LISTEN),
    (socket.AF_INET, socket.IPPROTO_UDP, _UNCONNECTED),
    (socket.AF_INET6, socket.IPPROTO_UDP, _UNCONNECTED),
)


@dataclass(frozen=True, slots=True)
class Listening:
    """One socket."""

    inode: int
    protocol: str
    """tcp, udp or unix."""
    address: str
    """An IP address; of a unix socket its path, or its name after ``@`` if it is abstract."""
    port: int | None = None
    cgroup: int = 0
    """The inode of the cgroup in which it was made; 0 if that is unknown."""

    @property
    def shown(self) -> str:
        """Its address as people write it: ``127.0.0.1:80``, ``[::1]:80``, ``/run/x``."""
        return with_port(self.address, self.port)


def with_port(address: str, port: int | None) -> str:
    """Return an address with its port, if it has one. Pure."""
    if port is None:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def read(*, unix: bool = True) -> list[Listening]:
    """Ask the kernel; what it refuses to answer is missing."""
    from pyroute2.netlink.diag import DiagSocket
    from pyroute2.netlink.exceptions import NetlinkError

    found: list[Listening] = []
    try:
        with DiagSocket() as diagnosis:
            diagnosis.bind()
            for family, protocol, state in _INTERNET:
                answers = diagnosis.get_sock_stats(
                    family=family, protocol=protocol, states=1 << state
                )
                found += filter(None, (_internet(each, protocol) for each in answers))
            if unix:
                states = 1 << _LISTEN | 1 << _UNCONNECTED
                answers = diagnosis.get_sock_stats(family=socket.AF_UNIX, states=states)
                found += filter(None, map(_unix, answers))
    except (NetlinkError, OSError):
        pass
    return found


def _internet(each: Any, protocol: int) -> Listening | None:  # noqa: ANN401
    inode, port = each.get("idiag_inode"), each.get("idiag_sport")
    if not inode or not port:  # an error of the kernel's, or no address yet
        return None
    name = "tcp" if protocol == socket.IPPROTO_TCP else "udp"
    cgroup = each.get_attr("INET_DIAG_CGROUP_ID")
    return Listening(inode, name, str(each.get("idiag_src")), port, cgroup or 0)


def _unix(each: Any) -> Listening | None:  # noqa: ANN401
    inode, name = each.get("udiag_ino"), each.get_attr("UNIX_DIAG_NAME")
    if not inode or not name:
        return None
    if each.get("udiag_state") != _LISTEN and each.get("udiag_type") != _DATAGRAMS:
        return None
    text = name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else str(name)
    is_file = each.get_attr("UNIX_DIAG_VFS") is not None
    return Listening(inode, "unix", text if is_file else f"@{text.lstrip(chr(0))}")


def held_by(pid: int) -> Iterator[int]:
    """Yield the inode of each socket that a process has open; raises OSError."""
    folder = f"/proc/{pid}/fd"
    for name in os.listdir(folder):
        try:
            link = os.readlink(f"{folder}/{name}")
        except OSError:
            continue  # it was closed meanwhile
        if link.startswith("socket:["):
            yield int(link[8:-1])


def is_elsewhere(pid: int) -> bool:
    """Return whether a process is in another network namespace; False if that cannot be read."""
    try:
        return os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net")
    except OSError:
        return False
