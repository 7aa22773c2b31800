"""Writes the fast launcher: ``python -m scopekeeper.launch.direct [PATH]``.

A script that pip installs starts the interpreter with ``site``, which is a third of the time of a
launch; pip drops interpreter options from a script's first line. This rewrites the installed
script in place (or writes PATH) so that it runs ``python -I -S`` and knows where the package is.
Running it again changes nothing. ``pip uninstall`` still removes the script.
"""

import os
import shutil
import sys
from pathlib import Path

_SCRIPT = """\
#!{python} -IS
import sys
sys.path.insert(0, {folder!r})
from scopekeeper.launch import main
main()
"""


def script() -> str:
    """Return the launcher for this interpreter and this copy of the package."""
    folder = str(Path(__file__).resolve().parents[2])
    return _SCRIPT.format(python=sys.executable, folder=folder)


def write(path: Path) -> None:
    """Replace path by the launcher, atomically."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(script())
    temporary.chmod(0o755)
    temporary.replace(path)


def main() -> int:
    """Write the launcher to the path named, else over the installed script."""
    beside = Path(sys.executable).with_name("scopekeeper")
    found = sys.argv[1] if len(sys.argv) > 1 else shutil.which("scopekeeper")
    target = Path(found) if found and len(sys.argv) > 1 else beside
    line = script().split("\n", 1)[0]
    if len(line) > 127 or " " in sys.executable:
        print(f"scopekeeper: {sys.executable} cannot stand in a script's first line",
              file=sys.stderr)  # fmt: skip
        return 1
    try:
        write(target)
    except OSError as error:
        print(f"scopekeeper: cannot write {target}: {error.strerror}", file=sys.stderr)
        return 1
    print(f"wrote {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
