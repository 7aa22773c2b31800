"""The package under other version numbers: built from it by dpkg-deb, in the machine itself."""

import hashlib
import subprocess
from pathlib import Path

from scopekeeper.version import __version__

from .conftest import FOLDER, dpkg

OLDER = "0.0.9"
_MODULES = "usr/lib/python3/dist-packages/scopekeeper"


def variant(folder: Path, version: str) -> Path:
    """Return a package of another version."""
    (original,) = FOLDER.glob(f"scopekeeper_{__version__}_*.deb")
    root, made = folder / version, folder / f"scopekeeper_{version}.deb"
    subprocess.run(["dpkg-deb", "-R", original, root], check=True)
    changes = {
        "DEBIAN/control": (f"\nVersion: {__version__}\n", f"\nVersion: {version}\n"),
        f"{_MODULES}/version.py": (__version__, version),
    }
    for name, (before, after) in changes.items():
        _change(root, name, before, after)
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", root, made], check=True)
    return made


def _change(root: Path, name: str, before: str, after: str) -> None:
    """Replace a text that is there once, and the sum of the file."""
    path, sums = root / name, root / "DEBIAN/md5sums"
    old = path.read_bytes()
    assert old.count(before.encode()) == 1, (name, before)
    path.write_bytes(old.replace(before.encode(), after.encode()))
    text = sums.read_text()
    digests = [hashlib.md5(each, usedforsecurity=False).hexdigest() for each in
               (old, path.read_bytes())]  # fmt: skip
    sums.write_text(text.replace(f"{digests[0]}  {name}\n", f"{digests[1]}  {name}\n"))


def install(package: Path) -> None:
    """Install it over any other version."""
    dpkg("-i", str(package))
