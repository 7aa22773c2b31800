"""Has OpenClaw, a Node that runs it, and two real MCP servers from npm's registry, cached.

    python -m tests.e2e.packages 2026.9.6 2026.4.15

They lie below the lab's folder, in ``openclaw/``: ``node``, ``mcp``, and one folder for each
version of OpenClaw. A folder is complete where it has the stamp of what it was made from; npm
itself goes on where an installation was cut short. Exit status: 0 all is there, 3 the registry
cannot be reached, 1 something else went wrong.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab.host import Home, LabError, Note, home, locked

VERSIONS = ("2026.4.15", "2026.9.6")
LIMIT_S = 900.0
UNREACHABLE_STATUS = 3
STAMP = "complete"
"""The file of a folder that was filled to its end."""
# npm's own words, and those of the system below it, for a registry that does not answer
UNREACHABLE = re.compile(
    r"code (E(NOTFOUND|AI_AGAIN|CONNREFUSED|CONNRESET|TIMEDOUT|NETUNREACH|HOSTUNREACH)"
    r"|ERR_SOCKET_TIMEOUT|UNABLE_TO_\w+|E5\d\d|EIDLETIMEOUT|FETCH_ERROR)"
)


class UnreachableError(LabError):
    """A registry cannot be reached from here."""

    def __init__(self, message: str) -> None:
        super().__init__(message, UNREACHABLE_STATUS)


@dataclass(frozen=True, slots=True)
class Package:
    """One folder with what npm is told to put there, and a file that shows that it did."""

    folder: str
    dependencies: dict[str, str]
    proof: str
    overrides: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    @property
    def manifest(self) -> dict[str, Any]:
        """The folder's package.json."""
        made: dict[str, Any] = {"private": True, "dependencies": self.dependencies}
        return made | ({"overrides": self.overrides} if self.overrides else {})

    @property
    def stamp(self) -> str:
        """What tells this content from any other."""
        described = json.dumps([self.manifest, self.files], sort_keys=True)
        return hashlib.sha256(described.encode()).hexdigest()


NODE = Package("node", {"node": "24.21.0"}, "node_modules/node/bin/node")
SERVERS = Package(
    "mcp",
    {
        "@modelcontextprotocol/server-everything": "2026.8.31",
        "@modelcontextprotocol/server-filesystem": "2026.8.31",
    },
    "node_modules/@modelcontextprotocol/server-filesystem/dist/index.js",
)


def gateway(version: str) -> Package:
    """Return the package of one version of OpenClaw."""
    dependencies, proof = {"openclaw": version}, "node_modules/openclaw/openclaw.mjs"
    if not version.startswith("2026.4."):
        return Package(version, dependencies, proof)
    # libsignal (by way of baileys, a channel) is fetched by git over ssh, and linkedom from
    # 0.18.14 on wants a package that the registry does not have
    return Package(
        version,
        dependencies,
        proof,
        {"libsignal": "file:./stub-libsignal", "linkedom": "0.18.12"},
        {
            "stub-libsignal/package.json": json.dumps(
                {"name": "libsignal", "version": "2.0.1", "main": "index.js"}
            ),
            "stub-libsignal/index.js": "module.exports={};\n",
        },
    )


def folder(lab: Home | None = None) -> Path:
    """Return where everything is, whether it is there or not."""
    return (lab or home()).root / "openclaw"


def have(versions: Sequence[str], note: Note) -> Path:
    """Have Node, the servers and these versions installed; return the folder they are in.

    UnreachableError where the registry cannot be reached, LabError where anything else fails.
    """
    root = folder()
    for version in versions:
        if version not in VERSIONS:
            raise LabError(f"unknown OpenClaw {version!r}; known: {', '.join(VERSIONS)}")
    with locked(root / "lock", threading.Event()):
        for package in (NODE, SERVERS, *map(gateway, versions)):
            install(root, package, note)
    return root


def install(root: Path, package: Package, note: Note) -> None:
    """Have one package's folder complete; does nothing where its stamp says that it is."""
    path = root / package.folder
    proof = path / package.proof
    if is_complete(path, package.stamp, proof):
        return
    names = ", ".join(f"{name} {number}" for name, number in package.dependencies.items())
    note(f"installing {names} from npm's registry into {path}")
    for name, text in {**package.files, "package.json": json.dumps(package.manifest)}.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    npm(root, path)
    complete(path, package.stamp, proof)


def is_complete(path: Path, stamp: str, proof: Path) -> bool:
    """Return True if a folder has this stamp, and the proof; else it has no stamp any more."""
    file = path / STAMP
    if file.exists() and file.read_text() == stamp and proof.exists():
        return True
    file.unlink(missing_ok=True)
    return False


def complete(path: Path, stamp: str, proof: Path) -> None:
    """Stamp a folder that has been filled; LabError without the proof."""
    if not proof.exists():
        raise LabError(f"{path} was installed without {proof}")
    written = path / f"{STAMP}.new"
    written.write_text(stamp)
    written.rename(path / STAMP)


def npm(root: Path, path: Path) -> None:
    """Call ``npm install`` in a folder, with our Node first in PATH where it is there."""
    program = shutil.which("npm")
    if program is None:
        raise UnreachableError("there is no npm here: apt-get install npm")
    node = root / NODE.folder / "node_modules/node/bin"
    argv = [program, "install", "--no-fund", "--no-audit", "--loglevel=error"]
    environment = os.environ | {"PATH": f"{node}:{os.environ.get('PATH', os.defpath)}"}
    call(argv, path, environment, "npm", UNREACHABLE)


def call(
    argv: list[str],
    path: Path,
    environment: dict[str, str],
    registry: str,
    unreachable: re.Pattern[str],
) -> None:
    """Call what fetches from a registry; its words tell whether that could be reached."""
    try:
        done = subprocess.run(
            argv,
            cwd=path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UnreachableError(f"{registry} took longer than {LIMIT_S:.0f} s in {path}") from None
    if done.returncode != 0:
        words = "\n".join(done.stdout.splitlines()[-12:])
        if unreachable.search(done.stdout):
            raise UnreachableError(f"{registry}'s registry cannot be reached:\n{words}")
        name = Path(argv[0]).name
        raise LabError(f"{name} install in {path} exited {done.returncode}:\n{words}", 1)


def wanted(text: str) -> Iterator[str]:
    """Read what ``make test-openclaw OPENCLAW=`` may say: a version, several, or ``both``."""
    for word in text.replace(",", " ").split():
        yield from VERSIONS if word == "both" else (word,)


def main(arguments: Sequence[str]) -> int:
    """Install what is named, or both versions."""
    try:
        where = have(list(wanted(" ".join(arguments) or "both")), print)
    except LabError as error:
        print(f"packages: {error}", file=sys.stderr)
        return error.status
    print(where)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
