"""Has a client from PyPI, in a folder, for the Python of the lab's machine."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.packages import UnreachableError
from tests.lab.host import LabError, Note

LIMIT_S = 900.0
PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_28_x86_64")
# pip's own words; without an answer it knows no version at all
UNREACHABLE = re.compile(
    r"NewConnectionError|ConnectTimeoutError|ReadTimeoutError|NameResolutionError|ProxyError"
    r"|SSLError|\b5\d\d Server Error|\(from versions: none\)"
)


@dataclass(frozen=True, slots=True)
class Distribution:
    """What pip is to put into a folder, and a file that shows that it did."""

    folder: str
    requirement: str
    python: str
    """such as 3.13"""
    proof: str

    @property
    def stamp(self) -> str:
        """What the folder was made from."""
        return f"{self.requirement} for Python {self.python}\n"


def install(root: Path, wanted: Distribution, note: Note) -> None:
    """Have a folder complete; does nothing where its stamp says that it is."""
    path = root / wanted.folder
    stamp, proof = path / "complete", path / wanted.proof
    if stamp.exists() and stamp.read_text() == wanted.stamp and proof.exists():
        return
    stamp.unlink(missing_ok=True)
    path.mkdir(parents=True, exist_ok=True)
    note(f"installing {wanted.requirement} from PyPI into {path}")
    pip(path / "site", wanted)
    if not proof.exists():
        raise LabError(f"pip installed {wanted.requirement} without {proof}")
    stamp.write_text(wanted.stamp)


def pip(site: Path, wanted: Distribution) -> None:
    """Call ``pip install`` for another Python than this one."""
    argv = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    target = ["--upgrade", "--target", str(site), "--only-binary=:all:"]
    try:
        done = subprocess.run(
            [*argv, *target, *platforms, "--python-version", wanted.python, wanted.requirement],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UnreachableError(f"pip took longer than {LIMIT_S:.0f} s in {site}") from None
    if done.returncode != 0:
        words = "\n".join(done.stdout.splitlines()[-12:])
        if UNREACHABLE.search(done.stdout):
            raise UnreachableError(f"PyPI cannot be reached:\n{words}")
        raise LabError(f"pip exited {done.returncode} for {wanted.requirement}:\n{words}", 1)
