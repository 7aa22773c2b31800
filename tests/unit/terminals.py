"""Programs that are recorded at a terminal, and a terminal that shows what was recorded."""

import fcntl
import os
import pathlib
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
import uuid
from typing import Self

from tests.machine import PATIENCE, children_of, state_of

_TIOCGPTN = 0x80045430


def set_size(fd: int, cols: int, rows: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))


def other_end(fd: int) -> int:
    """Open the terminal whose master this is."""
    number = struct.unpack("I", fcntl.ioctl(fd, _TIOCGPTN, bytes(4)))[0]
    return os.open(f"/dev/pts/{number}", os.O_RDWR | os.O_NOCTTY)


def read_until(fd: int, end: float, *, quiet: float | None = None, wanted: bytes = b"") -> bytes:
    """Read until a moment, until nothing comes for a while, or until something came."""
    data = b""
    while (left := end - time.monotonic()) > 0:
        if not select.select([fd], [], [], left if quiet is None else min(left, quiet))[0]:
            break
        try:
            piece = os.read(fd, 1 << 16)
        except OSError:
            break
        data += piece
        if not piece or (wanted and wanted in data):
            break
    return data


def record(argv: list[str], typed: list[bytes] = (), cols: int = 80, rows: int = 24) -> bytes:
    """Return what a program writes to a terminal until it is quiet, each time it was typed to."""
    pid, fd = pty.fork()
    if not pid:
        os.environ.update(TERM="xterm-256color", LANG="C.UTF-8", LC_ALL="C.UTF-8", LESS="")
        set_size(0, cols, rows)  # here, so that the program begins with it
        os.execvp(argv[0], argv)
    output = _answer(fd, pid)
    for keys in typed:
        os.write(fd, keys)
        output += _answer(fd, pid)
    os.kill(pid, signal.SIGKILL)
    os.close(fd)
    os.waitpid(pid, 0)
    return output


def printed(argv: list[str], cols: int = 80, **how: object) -> list[str]:
    """Return the lines that a program prints on a terminal until it ends."""
    master, slave = pty.openpty()
    set_size(slave, cols, 24)
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=slave, stderr=slave, **how)
    os.close(slave)
    data = read_until(master, time.monotonic() + PATIENCE)
    os.close(master)
    process.wait(PATIENCE)
    return data.decode().replace("\r\n", "\n").splitlines()


def _answer(fd: int, pid: int) -> bytes:
    """Return what a program writes until it, and whatever it has started, waits for more."""
    data, end = b"", time.monotonic() + PATIENCE
    while time.monotonic() < end:
        piece = read_until(fd, end, quiet=0.2)
        data += piece
        if data and not piece and _waits(pid):
            return data
    raise AssertionError(f"it does not come to rest: {data!r}")


def _waits(pid: int) -> bool:
    return state_of(pid) not in ("R", "D") and all(map(_waits, children_of(pid)))


_FACTS = (
    "#{cursor_x} #{cursor_y} #{cursor_flag} #{alternate_on} #{keypad_cursor_flag} #{keypad_flag} "
    "#{mouse_any_flag} #{mouse_button_flag} #{mouse_standard_flag} #{mouse_sgr_flag} "
    "#{scroll_region_upper} #{scroll_region_lower} #{insert_flag} #{wrap_flag} #{origin_flag} "
    "#{pane_title}"
)


class Tmux:
    """A terminal that this project has no part in."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self._socket = str(folder / "tmux")
        config = folder / "tmux.conf"
        config.write_text("set -g status off\nset -g exit-empty off\n")
        self._config = str(config)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._run("kill-server", check=False)

    def show(self, data: bytes, cols: int = 80, rows: int = 24) -> tuple[str, str]:
        """Return the picture with its colours, and the cursor and modes, that bytes make."""
        name = uuid.uuid4().hex
        path = self._folder / name
        path.write_bytes(data)
        done = f"{name}-done"
        self._run(
            "new-session", "-d", "-s", name, "-x", str(cols), "-y", str(rows),
            f"stty raw -echo; cat {path}; touch {path}.done; exec sleep 1000",
        )  # fmt: skip
        end = time.monotonic() + PATIENCE
        while not path.with_name(f"{name}.done").exists():
            assert time.monotonic() < end, done
            time.sleep(0.02)
        seen = [self._look(name)]
        while len(seen) < 4 or seen[-1] != seen[-4]:  # tmux still reads what cat has written
            time.sleep(0.1)
            seen.append(self._look(name))
        return seen[-1]

    def _look(self, name: str) -> tuple[str, str]:
        picture = self._run("capture-pane", "-e", "-p", "-t", name)
        # where colours end with the last character, tmux 3.6 says it before or after the line ends
        # and leaves out the spaces at a line's end only where it says it after
        while (moved := re.sub(r" *\x1b\[0m\n", "\n\x1b[0m", picture)) != picture:
            picture = moved
        picture = picture.removesuffix("\x1b[0m")
        return picture, self._run("display-message", "-p", "-t", name, _FACTS)

    def _run(self, *words: str, check: bool = True) -> str:
        environ = {**os.environ, "LC_ALL": "C.UTF-8", "TERM": "xterm-256color"}
        environ.pop("TMUX", None)
        return subprocess.run(
            ["tmux", "-u", "-S", self._socket, "-f", self._config, *words],
            check=check, capture_output=True, text=True, env=environ, timeout=PATIENCE,
        ).stdout  # fmt: skip
