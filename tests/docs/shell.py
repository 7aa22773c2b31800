"""A shell that the tests of pages type into."""

import re
import subprocess
from pathlib import Path


class Shell:
    """A shell that does one line after the other."""

    def __init__(self, folder: Path) -> None:
        self._shell = subprocess.Popen(
            ["bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, cwd=folder,
        )  # fmt: skip

    def do(self, line: str) -> tuple[int, str]:
        """Do a line; return its status and what it printed."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f"{line}\nprintf '\\nENDED %d\\n' $?\n")
        self._shell.stdin.flush()
        printed = ""
        while not (end := re.search(r"\nENDED (\d+)\n\Z", printed)):
            more = self._shell.stdout.readline()
            assert more, printed
            printed += more
        return int(end[1]), printed[: end.start()]

    def end(self) -> None:
        self._shell.stdin.close()
        self._shell.wait()
        self._shell.stdout.close()
