"""Films scenes in machines of the lab and draws them: ``python -m tests.pictures [NAME]``."""

import json
import subprocess
import sys
from pathlib import Path

from tests.pictures.svg import draw

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs/pictures"
PICTURE = FOLDER / "demo.svg"
FILM = ("-m", "tests.lab", "run", "trixie")
FILMS = {
    "demo": (
        ("--nspawn", "--user"),
        (
            "A terminal: a killed gateway leaves MCP servers. With scopekeeper, reconcile ends all "
            "of them. Longer waits are cut."
        ),
    ),
    # a virtual machine: a container has no memory controller
    "top": (
        ("--user",),
        (
            "A terminal: scopekeeper top shows scopes, then members, opens one, and asks before it "
            "stops one. Longer waits are cut."
        ),
    ),
}
"""The options of the machine for each film, and what a screen reader says."""


def main() -> int:
    """Write the pictures of the names given, or all; return the exit status of the last machine."""
    for name in sys.argv[1:] or FILMS:
        options, title = FILMS[name]
        argv = [
            sys.executable,
            *FILM,
            *options,
            "--",
            "python3",
            "-m",
            "tests.pictures.record",
            name,
        ]
        done = subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.stdout.write(done.stdout)
            return done.returncode
        (line,) = [each for each in done.stdout.splitlines() if each.startswith('{"columns"')]
        film = json.loads(line)
        FOLDER.mkdir(exist_ok=True)
        picture = FOLDER / f"{name}.svg"
        picture.write_text(draw(film["events"], film["columns"], film["lines"], title))
        print(picture.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
