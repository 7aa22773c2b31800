"""``top`` in a window of a real tmux, which a test types into and reads from."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.machine import PROGRAM, eventually


class Pane:
    """A window of a real tmux in which a shell runs ``top``."""

    def __init__(self, folder: Path, cols: int, rows: int, *arguments: str) -> None:
        self._socket = str(folder / "tmux")
        script = f'"$@"; echo "status $?"; exec {sys.executable} -c "import time; time.sleep(1e6)"'
        variables = {k: v for k, v in os.environ.items() if not k.startswith("TMUX")}
        subprocess.run(
            ["tmux", "-S", self._socket, "-f", "/dev/null", "new-session", "-d", "-x", str(cols),
             "-y", str(rows), "sh", "-c", script, "sh", PROGRAM, "top", *arguments],
            env=variables | {"LC_ALL": "C.UTF-8"}, check=True, timeout=60,
        )  # fmt: skip

    def _call(self, *words: str) -> str:
        words = ("tmux", "-S", self._socket, *words)
        return subprocess.run(words, capture_output=True, text=True, timeout=60).stdout

    def type(self, *keys: str) -> None:
        self._call("send-keys", *keys)

    def resize(self, cols: int, rows: int) -> None:
        self._call("resize-window", "-x", str(cols), "-y", str(rows))

    @property
    def lines(self) -> list[str]:
        return self._call("capture-pane", "-p").split("\n")[:-1]

    def shows(self, pattern: str) -> list[str]:
        """Wait until a pattern is visible, and return the lines."""
        seen: list[str] = []

        def found() -> object:
            seen[:] = self.lines
            return re.search(pattern, "\n".join(seen))

        try:
            eventually(found)
        except AssertionError:
            raise AssertionError("\n".join([f"{pattern!r} did not come:", *seen])) from None
        return seen

    def close(self) -> None:
        self._call("kill-server")


@contextlib.contextmanager
def panes(folder: Path) -> Iterator[Callable[..., Pane]]:
    """Provide what opens a window with columns, lines and arguments of ``top``, and close all."""
    if not shutil.which("tmux"):
        pytest.skip("tmux is not installed")
    opened: list[Pane] = []

    def call(cols: int, rows: int, *arguments: str) -> Pane:
        opened.append(Pane(folder, cols, rows, *arguments))
        return opened[-1]

    try:
        yield call
    finally:
        for each in opened:
            each.close()
