"""The two things that are put beside OpenClaw's configuration: the plugin, and the drop-in.

Each is ours alone, known by what is in it, and written whole or not at all.
"""

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator

import scopekeeper
from scopekeeper.errors import ConfigError
from scopekeeper.openclaw.places import DROP_IN, Places

_HOME = os.path.dirname(os.path.abspath(scopekeeper.__file__))
_PLUGIN = f"{_HOME}/openclaw/plugin"
_MANIFEST = "openclaw.plugin.json"
_OURS = b'"id": "scopekeeper"'
_SHELL = "/usr/bin/scopekeeper-shell"


def drop_in_text(unit: str, program: str) -> str:
    """Return what the drop-in of a unit has to say; program is the whole path of ours."""
    places = (f"{_HOME}/units", f"{os.path.dirname(_HOME)}/units")  # a wheel's, a checkout's
    for folder in places:
        with contextlib.suppress(OSError):
            path = f"{folder}/openclaw-gateway.service.d/{DROP_IN}"
            with open(path, encoding="utf-8") as file:
                text = file.read()
            text = text.replace(_SHELL, _quoted(f"{program}-shell"))
            return text.replace("=-scopekeeper ", f"=-{_quoted(program)} ")
    raise ConfigError(f"the drop-in for {unit} is missing", "install scopekeeper again")


def _quoted(path: str) -> str:
    """Write a path for a unit file: specifiers and variables stay text (systemd.unit(5))."""
    path = path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{path}"' if any(char in path for char in " \t'\\\"") else path


def has_plugin(places: Places) -> str:
    """Return ``missing``, ``older`` where it is not the one of this version, or ``installed``."""
    if not os.path.isdir(places.plugin):
        return "missing"
    return "installed" if _contents(places.plugin) == _contents(_PLUGIN) else "older"


def has_drop_in(places: Places, program: str) -> str:
    """Return ``missing``, ``older`` or ``installed``."""
    try:
        with open(places.drop_in, encoding="utf-8") as file:
            same = file.read() == drop_in_text(places.unit, program)
    except OSError:
        return "missing"
    return "installed" if same else "older"


def check(places: Places) -> None:
    """Refuse to write over what is not ours; raises ConfigError."""
    if os.path.lexists(places.plugin) and not _is_our_plugin(places.plugin):
        raise ConfigError(f"{places.plugin}: this is another plugin", "move it away")


def put_plugin(places: Places) -> None:
    """Write the plugin's folder; raises ConfigError."""
    with _reported(places.plugin):
        parent = os.path.dirname(places.plugin)
        _make_folders(parent)
        ready = f"{parent}/.scopekeeper-{os.urandom(6).hex()}"
        _make_folders(ready)
        try:
            for name, content in _contents(_PLUGIN).items():
                _write(f"{ready}/{name}", content)
            _remove_folder(places.plugin)
            os.rename(ready, places.plugin)
        finally:
            shutil.rmtree(ready, ignore_errors=True)


def put_drop_in(places: Places, program: str) -> None:
    """Write the drop-in; raises ConfigError."""
    text = drop_in_text(places.unit, program)
    with _reported(places.drop_in):
        folder = os.path.dirname(places.drop_in)
        _make_folders(folder)
        ready = f"{folder}/.{DROP_IN}-{os.urandom(6).hex()}"
        try:
            _write(ready, text.encode())
            os.rename(ready, places.drop_in)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(ready)


def remove_plugin(places: Places) -> bool:
    """Remove the plugin's folder, and what holds it where nothing else does."""
    with _reported(places.plugin):
        if not os.path.lexists(places.plugin):
            return False
        check(places)
        _remove_folder(places.plugin)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(places.plugin))
    return True


def remove_drop_in(places: Places) -> bool:
    """Remove the drop-in, and its folder where nothing else is in it."""
    with _reported(places.drop_in):
        try:
            os.unlink(places.drop_in)
        except FileNotFoundError:
            return False
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(places.drop_in))
    return True


def _make_folders(path: str) -> None:
    """Make a folder and those above it, as others may not write to them.

    OpenClaw 2026.9 refuses plugins and units that a group may write, and a umask may let it.
    """
    if not os.path.isdir(path):
        _make_folders(os.path.dirname(path))
        os.mkdir(path, 0o755)
        os.chmod(path, 0o755)  # noqa: S103  what a umask may have taken, no more


def _write(path: str, content: bytes) -> None:
    with open(path, "xb") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(content)


def _is_our_plugin(folder: str) -> bool:
    if os.path.islink(folder):
        return False
    try:
        with open(f"{folder}/{_MANIFEST}", "rb") as file:
            return _OURS in file.read()
    except OSError:
        return False


def _remove_folder(folder: str) -> None:
    """Remove a folder of ours; only files are in it."""
    if _is_our_plugin(folder):
        shutil.rmtree(folder)


def _contents(folder: str) -> dict[str, bytes]:
    found = {}
    for name in sorted(os.listdir(folder)):
        path = f"{folder}/{name}"
        if stat.S_ISREG(os.lstat(path).st_mode):
            with open(path, "rb") as file:
                found[name] = file.read()
    return found


@contextlib.contextmanager
def _reported(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{error.filename or path}: {error.strerror}") from None
