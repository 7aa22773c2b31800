"""Where a keeper serves metrics: a Unix socket that only its user can use, or a port."""

import contextlib
import errno
import ipaddress
import os
import socket
import stat
from dataclasses import dataclass

from scopekeeper import keeper_address
from scopekeeper.errors import ConflictError, ScopekeeperError, UnavailableError, UsageError
from scopekeeper.keeper_address import reachable

_BACKLOG = 16
_LOOPBACK = "127.0.0.1"
_FORMS = "give unix, the path of a socket, PORT or ADDRESS:PORT"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """The path of a socket."""

    path: str

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A port of an address; nothing protects it but who can reach it."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return ipaddress.ip_address(self.host).is_loopback

    def answers_to(self, host: str) -> bool:
        """Return whether to answer a request with this Host header.

        A web page can have its own name lead to the loopback address, and so read what a browser
        on this machine can (DNS rebinding). There, only an address or localhost is answered.
        """
        name, _, port = host.rpartition(":")
        name = name if port.isdecimal() else host
        if not self.is_loopback or name.lower() == "localhost":
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True


Address = UnixAddress | TcpAddress


def parse(text: str) -> Address:
    """Return the address that a text means; raises UsageError, StateError."""
    if text == "unix":
        return UnixAddress(f"{os.path.dirname(keeper_address.address())}/metrics")
    if text.startswith("/"):
        return UnixAddress(text)
    host, colon, port = text.rpartition(":")
    try:
        host = str(ipaddress.ip_address(host.strip("[]"))) if colon else _LOOPBACK
    except ValueError:
        raise UsageError(f"{text!r} has no address: {host!r} is a name", _FORMS) from None
    if not (port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 1 << 16):
        raise UsageError(f"{text!r} is no address of metrics", _FORMS)
    return TcpAddress(host, int(port))


def listen(address: Address) -> socket.socket:
    """Return a listening socket; raises ScopekeeperError with one clause that says what to do."""
    try:
        if isinstance(address, TcpAddress):
            return _listen_tcp(address)
        return _listen_unix(address.path)
    except OSError as error:
        raise _problem(address, error) from None


def close(address: Address, listening: socket.socket) -> None:
    """Stop listening, and remove the socket."""
    if isinstance(address, UnixAddress):
        with contextlib.suppress(OSError):
            os.unlink(address.path)
    listening.close()


def _listen_tcp(address: TcpAddress) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind((address.host, address.port))
        listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def _listen_unix(path: str) -> socket.socket:
    folder = os.path.dirname(path)
    if folder == os.path.dirname(keeper_address.address()):
        os.makedirs(folder, mode=0o755, exist_ok=True)
    _remove_stale(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        with reachable(path) as name:
            listening.bind(name)
        listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    finally:
        os.umask(before)
    return listening


def _remove_stale(path: str) -> None:
    """Remove a socket where nobody listens, which a keeper that was killed has left.

    Raises ConflictError for anything else.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise _taken(path, "it is no socket")
    if found.st_uid != os.geteuid():
        raise _taken(path, f"it is a socket of uid {found.st_uid}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)
        try:
            with reachable(path) as name:
                asking.connect(name)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass  # its queue is full: somebody listens
    raise _taken(path, "another process listens there")


def _taken(path: str, why: str) -> ConflictError:
    return ConflictError(f"{path} is taken: {why}", "give another path, or remove it")


def _problem(address: Address, error: OSError) -> ScopekeeperError:
    if isinstance(address, UnixAddress):
        return UnavailableError(
            f"{address}: {error.strerror}", "give a path in a folder that this user can write to"
        )
    if error.errno == errno.EADDRINUSE:
        return ConflictError(
            f"{address} is taken by another process",
            f"`ss -ltnp sport = :{address.port}` shows which; give another port",
        )
    if error.errno == errno.EAFNOSUPPORT:
        return UnavailableError(
            f"{address}: {error.strerror}",
            "add AF_INET, or for an IPv6 address AF_INET6, to RestrictAddressFamilies= of the unit",
        )
    if error.errno == errno.EACCES:
        return UnavailableError(f"{address}: {error.strerror}", "give a port from 1024 on")
    return UnavailableError(f"{address}: {error.strerror}", "give an address of this machine")
