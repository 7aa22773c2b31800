"""Files as another process may put them where ours belong."""

import os
import socket
from pathlib import Path

HUGE = 10 << 30
KINDS = {
    "fifo": "a FIFO", "folder": "a directory", "link": "a symbolic link",
    "loose": "a symbolic link", "device": "a symbolic link", "socket": "a socket", "huge": "bytes",
} | ({"another's": "uid 1", "node": "a device"} if os.geteuid() == 0 else {})  # fmt: skip
"""Each with the words that name it."""


def put(path: Path, kind: str) -> None:
    """Put one there, in place of what there is."""
    path.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind in ("link", "loose", "device"):
        path.with_name("plain").write_bytes(b"plain")
        path.symlink_to({"link": "plain", "loose": "nowhere", "device": "/dev/zero"}[kind])
    elif kind == "socket":
        here = os.open(path.parent, os.O_PATH)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(f"/proc/self/fd/{here}/{path.name}")
        os.close(here)
    elif kind == "node":
        os.mknod(path, 0o020600, os.makedev(1, 5))
    else:
        path.write_bytes(b"")
        os.truncate(path, HUGE if kind == "huge" else 0)
        if kind == "another's":
            os.chown(path, 1, 1)
