"""Replaces the launchers that pip wrote into this environment by fast ones."""

import os
import sys
from pathlib import Path

from scopekeeper.launcher import direct
from scopekeeper.mcp_configs.servers import PROGRAM


def slow(program: str) -> Path | None:
    """Return the launcher of program if pip wrote it into a virtual environment that we may write.

    Outside of one it belongs to a distribution's package or to the system's pip.
    """
    script = Path(sys.executable).with_name(PROGRAM)
    try:
        mine = os.path.realpath(program) == os.path.realpath(script) and script.is_file()
        if sys.prefix == sys.base_prefix or not mine or direct.is_direct(script):
            return None
    except OSError:
        return None
    folders = (script.parent, Path(direct.__file__).parent)
    return script if all(os.access(folder, os.W_OK) for folder in folders) else None


def make_fast(script: Path) -> str:
    """Write the fast launcher; return the problem, '' if there is none."""
    try:
        direct.write(script)
    except ValueError as error:
        return str(error)
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    return ""
