"""Films the scene in a machine of the lab and draws it: ``python -m tests.pictures``."""

import json
import subprocess
import sys
from pathlib import Path

from tests.pictures.svg import draw

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "docs/pictures/demo.svg"
TITLE = (
    "A terminal: a killed gateway leaves MCP servers. With scopekeeper, reconcile ends all of "
    "them. Longer waits are cut."
)
FILM = ("-m", "tests.lab", "run", "trixie", "--nspawn", "--user", "--", "python3", "-m",
        "tests.pictures.record")  # fmt: skip


def main() -> int:
    """Write the picture; return the exit status of the machine."""
    done = subprocess.run([sys.executable, *FILM], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.stdout.write(done.stdout)
        return done.returncode
    (line,) = [each for each in done.stdout.splitlines() if each.startswith('{"columns"')]
    film = json.loads(line)
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(draw(film["events"], film["columns"], film["lines"], TITLE))
    print(PICTURE.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
