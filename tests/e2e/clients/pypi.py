"""Programs from PyPI, in a virtual environment for the Python of the lab's machine.

The host may have another Python. So pip only unpacks wheels here, those for the machine's version,
and this lays them out as ``python3 -m venv`` does. The environment works only in the machine.
"""

import hashlib
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.packages import call, complete, is_complete
from tests.lab.host import Note

VERSION = "3.13"
"""Of the Python of trixie."""
PYTHON = Path("/usr/bin/python3")
"""Where the machine has it."""
PLATFORMS = ("manylinux_2_39", "manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "linux")
"""Wheels for these run on trixie."""
# pip's own words for an index that does not answer
UNREACHABLE = re.compile(r"from versions: none|ConnectionError|ReadTimeout|HTTP error 5\d\d")


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment with one program."""

    folder: str
    requirement: str
    program: str

    def install(self, root: Path, guest: Path, note: Note) -> None:
        """Have it in a folder of the host, which the machine sees as another one."""
        path = root / self.folder
        program = path / "bin" / self.program
        stamp = hashlib.sha256(repr((self, guest, VERSION)).encode()).hexdigest()
        if is_complete(path, stamp, program):
            return
        note(f"installing {self.requirement} from PyPI into {path}")
        packages = path / f"lib/python{VERSION}/site-packages"
        packages.mkdir(parents=True, exist_ok=True)
        _pip(path, packages, self.requirement)
        program.parent.mkdir(exist_ok=True)
        (path / "pyvenv.cfg").write_text(
            f"home = {PYTHON.parent}\ninclude-system-site-packages = false\nversion = {VERSION}\n"
        )
        interpreter = program.parent / PYTHON.name
        interpreter.unlink(missing_ok=True)
        interpreter.symlink_to(PYTHON)
        # pip has written the path of the Python that it runs with
        _, _, script = (packages / "bin" / self.program).read_text().partition("\n")
        program.write_text(f"#!{guest / self.folder / 'bin' / PYTHON.name}\n{script}")
        program.chmod(0o755)
        complete(path, stamp, program)


def _pip(path: Path, packages: Path, requirement: str) -> None:
    machine = os.uname().machine
    platforms = [f"--platform={name}_{machine}" for name in PLATFORMS]
    chosen = ["--only-binary=:all:", "--implementation=cp", f"--python-version={VERSION}"]
    how = ["--quiet", "--no-compile", "--disable-pip-version-check", "--upgrade"]
    into = [f"--target={packages}", requirement]
    argv = [sys.executable, "-m", "pip", "install", *how, *chosen, *platforms, *into]
    call(argv, path, dict(os.environ), "PyPI", UNREACHABLE)
