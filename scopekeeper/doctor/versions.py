"""Versions of scopekeeper and of what it runs on, without the name of the host or of a user."""

import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

from scopekeeper.errors import words
from scopekeeper.kernel import cgroupfs, mounts, proc
from scopekeeper.version import __version__

_LIBRARIES = (
    "click",
    "dbus-next",
    "dbus-fast",
    "prometheus-client",
    "psutil",
    "pyroute2",
    "pyte",
    "pystemd",
    "ruamel.yaml",
)


def versions() -> dict[str, object]:
    """Return each version by its name; what cannot be found out is one line that says why."""
    looks: dict[str, Callable[[], object]] = {
        "scopekeeper": lambda: __version__,
        "installed": lambda: str(Path(__file__).resolve().parents[1]),
        "program": lambda: os.path.abspath(sys.argv[0]),
        "python": lambda: f"{platform.python_implementation()} {platform.python_version()}",
        "interpreter": lambda: sys.executable,
        "libraries": _libraries,
        "systemd": _systemd,
        "kernel": lambda: f"{platform.release()} {platform.version()} {platform.machine()}",
        "distribution": lambda: platform.freedesktop_os_release()["PRETTY_NAME"],
        "libc": lambda: os.confstr("CS_GNU_LIBC_VERSION"),
        "cgroup": _cgroup,
    }
    return {name: _tried(look) for name, look in looks.items()}


def _tried(look: Callable[[], object]) -> object:
    try:
        return look()
    except LookupError as error:
        return f"not known: {error.args[0]}"
    except Exception as error:  # noqa: BLE001  the other versions are still of use
        return f"not known: {words(error)}"


def _libraries() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _systemd() -> object:
    if not proc.exists("/run/systemd/system"):
        return "does not run here"
    from scopekeeper.systemd import calls

    return calls.version("user" if os.getuid() else "system")


def _cgroup() -> object:
    mount = proc.mount_point()
    return {
        "mount": mount,
        "options": mounts.options_of(mount),
        "controllers": (cgroupfs.read(mount, "cgroup.controllers") or "").split(),
        "own": proc.cgroup_of(),
    }
