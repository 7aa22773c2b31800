"""The folder with a ``bash`` that leads to scopekeeper-shell, for clients that look for a bash.

Some clients accept no other shell than one of that name, or take the first one in PATH.
"""

import os
import pwd
import re
from collections.abc import Mapping

from scopekeeper.clients import known
from scopekeeper.errors import ConfigError
from scopekeeper.install.locations import Locations, Piece
from scopekeeper.install.plan import FileAction, FileStep
from scopekeeper.launch.real_shell import NAME

_BASH = "bash"
_PLACEHOLDER = re.compile(r"\{[a-z]+\}")


def install(places: Locations, program: str, *, wanted: bool) -> list[FileAction]:
    """Return the action for the link, if it is wanted or exists already; raises ConfigError."""
    piece = _piece(places, f"{program}-shell")
    if not wanted and not _is_ours(piece.path):
        return []
    if os.path.lexists(piece.path) and not _is_ours(piece.path):
        why = "somebody else made it; remove it to have ours"
        return [FileAction(FileStep.KEEP, piece, why=why, is_foreign=True)]
    if not os.access(piece.target, os.X_OK):
        raise ConfigError(f"there is no {piece.target}", "install scopekeeper again")
    is_done = os.path.lexists(piece.path) and os.readlink(piece.path) == piece.target
    return [FileAction(FileStep.NOTHING if is_done else FileStep.WRITE, piece)]


def uninstall(places: Locations) -> list[FileAction]:
    """Return the action that removes the link; a login shell stays."""
    piece = _piece(places, NAME)
    if not _is_ours(piece.path):
        return []
    users = [each.pw_name for each in pwd.getpwall() if each.pw_shell == piece.path]
    if users:
        named = ", ".join(users)
        why = f"it is the login shell of {named}; first: usermod --shell /bin/bash {users[0]}"
        return [FileAction(FileStep.KEEP, piece, why=why)]
    return [FileAction(FileStep.REMOVE, piece)]


def pointers(places: Locations) -> list[tuple[str, str]]:
    """Return what each client needs to use the folder, as (client, what to do)."""
    folder = places.shells
    user = "USER" if places.manager == "system" else pwd.getpwuid(os.getuid()).pw_name
    values = {"{bash}": f"{folder}/{_BASH}", "{folder}": folder, "{user}": user}
    return [(each.title, _filled(each.bash, values)) for each in known.read([]) if each.bash]


def _filled(text: str, values: Mapping[str, str]) -> str:
    """Return a text with its placeholders replaced, each once."""
    return _PLACEHOLDER.sub(lambda found: values.get(found[0], found[0]), text)


def _piece(places: Locations, target: str) -> Piece:
    home = places.home
    base = home if home and places.shells.startswith(f"{home}/") else places.shells_base
    return Piece(_BASH, "", places.shells, base, (), target=target)


def _is_ours(path: str) -> bool:
    return os.path.islink(path) and os.path.basename(os.readlink(path)) == NAME
