"""The fast launchers for a distribution's package: ``packaged.py launchers|compiled``.

The launchers are the same for every version of Python, so they are files of the package:
``launchers FOLDER`` writes them into FOLDER at build time. The compiled files that they read depend
on the version, so they are made after installation, as bytecode is: ``compiled`` runs when the
package is configured and after an upgrade of Python. Until then the launchers are only slower.
"""

import sys
from pathlib import Path

PYTHON = "/usr/bin/python3"
PROGRAMS = Path("/usr/bin")


def launchers(folder: Path) -> None:
    """Write the launchers of an installation in /usr into a folder."""
    from scopekeeper import whole_file
    from scopekeeper.launcher import direct

    modules = "/usr/lib/python3/dist-packages"
    where = direct.Installation(PYTHON, modules, f"{modules}/scopekeeper/launcher")
    whole_file.replace(folder / "scopekeeper", direct.script(where), mode=0o755)
    for each in direct.SHELLS:
        content = direct.shell(each, PROGRAMS / each.name, where)
        whole_file.replace(folder / each.name, content, mode=0o755)


def compiled() -> None:
    """Compile for this interpreter beside this file, and remove files for other versions."""
    from scopekeeper.launcher import direct

    direct.write_compiled(PROGRAMS)
    for name in direct.COMPILED:
        for path in Path(__file__).parent.glob(f"{name}.cpython-*"):
            if path.suffix != f".{sys.implementation.cache_tag}":
                path.unlink(missing_ok=True)


if __name__ == "__main__":
    # called by its path, with -IS: no other copy of the package precedes this one
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    match sys.argv[1:]:
        case ["launchers", to]:
            launchers(Path(to))
        case ["compiled"]:
            compiled()
        case _:
            sys.exit("usage: packaged.py launchers FOLDER | compiled")
