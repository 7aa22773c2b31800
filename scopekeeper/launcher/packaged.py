"""The fast launchers as a distribution's package has them: ``packaged.py launchers|compiled``.

The launchers are the same for every version of Python, so that they can be files of the package:
``launchers FOLDER`` writes them into FOLDER when it is built. What they read is compiled for one
version, so it is made where the package is installed, as bytecode is: ``compiled`` does that when
it is configured, and when Python was upgraded. In between, the launchers are only slower.
"""

import sys
from pathlib import Path

PYTHON = "/usr/bin/python3"
PROGRAMS = Path("/usr/bin")


def launchers(folder: Path) -> None:
    """Write both launchers of an installation in /usr into a folder."""
    from scopekeeper import whole_file
    from scopekeeper.launch.real_shell import NAME
    from scopekeeper.launcher import direct

    modules = "/usr/lib/python3/dist-packages"
    where = direct.Installation(PYTHON, modules, f"{modules}/scopekeeper/launch")
    whole_file.replace(folder / "scopekeeper", direct.script(where), mode=0o755)
    whole_file.replace(folder / NAME, direct.shell(PROGRAMS / NAME, where), mode=0o755)


def compiled() -> None:
    """Compile for this interpreter beside this file, and remove what was for another one."""
    from scopekeeper.launch.real_shell import NAME
    from scopekeeper.launcher import direct

    direct.write_compiled(PROGRAMS / NAME)
    for name in ("hot", "make", "shell"):
        for path in Path(__file__).parent.glob(f"{name}.cpython-*"):
            if path.suffix != f".{sys.implementation.cache_tag}":
                path.unlink(missing_ok=True)


if __name__ == "__main__":
    # called by its path, with -IS: no other copy of the package comes before this one
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    match sys.argv[1:]:
        case ["launchers", to]:
            launchers(Path(to))
        case ["compiled"]:
            compiled()
        case _:
            sys.exit("usage: packaged.py launchers FOLDER | compiled")
