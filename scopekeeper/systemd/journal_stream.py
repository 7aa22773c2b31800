"""Opens a stream to the journal for a command's stderr, as systemd does for StandardError=journal.

On the way of a launch: builtin modules only. Source: systemd's journald-stream.c (252 to 260). The
head of a stream is seven lines: the identifier, a unit (taken from root alone), the priority,
whether lines may have a priority before them, and three that ask for copies. It has no line for
other fields, so none of ours can be in the entries. The journal itself adds, for each line, the
pid that wrote it, with its cgroup and unit.
"""

import _socket

SOCKET = "/run/systemd/journal/stdout"
ENTRIES = "/run/systemd/journal/socket"
_PATIENCE = 1.0
_INFORMATIONAL = 6
_BUFFER = 8 << 20
"""As systemd has it: a burst of lines does not make the command wait."""


def open_stream(identifier: str, path: str = SOCKET) -> int:
    """Return a descriptor whose lines become entries; raises OSError, also if the journal hangs."""
    stream = _connected(_socket.SOCK_STREAM, path)
    try:
        stream.shutdown(_socket.SHUT_RD)
        stream.sendall(f"{identifier}\n\n{_INFORMATIONAL}\n1\n0\n0\n0\n".encode())
        stream.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, _BUFFER)
    except OSError:
        stream.close()
        raise
    stream.setblocking(True)
    return int(stream.detach())


def send_entry(fields: dict[str, str], path: str = ENTRIES) -> None:
    """Write one entry with these fields, in the native protocol; a failure changes nothing."""
    data = b""
    for name, text in fields.items():
        value = text.encode("utf-8", "surrogateescape")
        data += name.encode() + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"
    try:
        _connected(_socket.SOCK_DGRAM, path).send(data)
    except OSError:
        pass


def _connected(kind: int, path: str) -> _socket.socket:
    made = _socket.socket(_socket.AF_UNIX, kind | _socket.SOCK_CLOEXEC)
    made.settimeout(_PATIENCE)
    try:
        made.connect(path)
    except OSError:
        made.close()
        raise
    return made
