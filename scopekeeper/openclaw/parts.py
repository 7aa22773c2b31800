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
from scopekeeper.installing import files, shipped
from scopekeeper.openclaw.places import DROP_IN, Places

_HOME = os.path.dirname(os.path.abspath(scopekeeper.__file__))
_PLUGIN = f"{_HOME}/openclaw/plugin"
_MANIFEST = "openclaw.plugin.json"
_OURS = b'"id": "scopekeeper"'


def drop_in_text(unit: str, program: str) -> str:
    """Return what the drop-in of a unit has to say; program is the whole path of ours."""
    try:
        text = shipped.read(f"openclaw-gateway.service.d/{DROP_IN}")
    except ConfigError:
        raise ConfigError(
            f"the drop-in for {unit} is missing", "install scopekeeper again"
        ) from None
    return shipped.for_program(text, program)


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
        files.make_folders(parent)
        ready = f"{parent}/.scopekeeper-{os.urandom(6).hex()}"
        files.make_folders(ready)
        try:
            for name, content in _contents(_PLUGIN).items():
                files.write(f"{ready}/{name}", content)
            _remove_folder(places.plugin)
            os.rename(ready, places.plugin)
        finally:
            shutil.rmtree(ready, ignore_errors=True)


def put_drop_in(places: Places, program: str) -> None:
    """Write the drop-in; raises ConfigError."""
    text = drop_in_text(places.unit, program)
    with _reported(places.drop_in):
        files.put(places.drop_in, text.encode())


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
