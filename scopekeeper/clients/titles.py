"""The title of a session: what people read where its name is an id or a number.

It is the name that the session has in its client's files. The folder of a client in this package
may have a module ``title`` for that, with a ``STORE``. Without such a name it is the working folder
of the owner. A session that a gateway or a user has named has none: its name says what it is.
"""

import contextlib
import os
import re
import time
from collections.abc import Iterable, Sequence

from scopekeeper.clients.cached import table
from scopekeeper.clients.code import module
from scopekeeper.clients.session_files import Store, one_line
from scopekeeper.kernel import proc
from scopekeeper.scope.model import Liveness, Scope
from scopekeeper.users import home_of

_SECONDS = 0.5
"""For all titles together: those that are not read by then are left out."""
_CLIENT = re.compile(r"([\w.-]{1,32}):([\w.-]{1,128})", re.ASCII)
_OWNER = re.compile(r".+-([0-9]+)", re.DOTALL)
_GONE = " (deleted)"


def read(scopes: Iterable[Scope]) -> dict[str, str]:
    """Return the titles of this user's scopes by their cgroup; those without one are missing."""
    reader = _Reader()
    found: dict[str, str] = {}
    for scope in scopes:
        if time.monotonic() > reader.deadline:
            break
        title = "" if scope.elsewhere else reader.title(scope)
        if title:
            found[scope.cgroup] = title
    return found


class _Reader:
    def __init__(self) -> None:
        self.deadline = time.monotonic() + _SECONDS
        self._clients = {row[4]: row[0] for row in table([])}
        self._stores: dict[str, Store | None] = {}

    def title(self, scope: Scope) -> str:
        owners = _owners(scope)
        names = (scope.label, scope.session)
        named = next((each for name in names if (each := self._named(name))), None)
        if named is not None:
            title = self._of_client(*named, owners, scope)
        else:
            number = _OWNER.fullmatch(scope.session)
            owners = [pid for pid in owners if number and str(pid) == number[1]]
            title = ""
        return title or next(filter(None, map(_folder, owners)), "")

    def _named(self, session: str) -> tuple[str, str] | None:
        """Return the client and the id in the name of a session, None if it has another form."""
        found = _CLIENT.fullmatch(session)
        client = self._clients.get(found[1]) if found else None
        return (client, found[2]) if found and client else None

    def _of_client(self, client: str, session_id: str, owners: list[int], scope: Scope) -> str:
        if client not in self._stores:
            code = module(client, "title")
            self._stores[client] = code.STORE if code else None
        store = self._stores[client]
        if store is None:
            return ""
        leaders = [each.pid for each in scope.living_members if each.leader_lives and each.pid]
        near = [pid for pid in (*owners, *leaders[:1]) if _is_ours(pid)]
        environment = _environment(near[:1])
        home = environment.get("HOME", "")
        directories = [each for each in map(_directory, near) if each]
        return store.title(
            session_id, home if home.startswith("/") else _home(), environment, directories
        )


def _owners(scope: Scope) -> list[int]:
    """Return the processes that own its members, as far as they are known to live."""
    states = [member.owner_state for member in scope.present_members]
    alive = [state.owner for state in states if state and state.liveness is Liveness.ALIVE]
    return list(dict.fromkeys(owner.pid for owner in alive if owner.pid and not owner.unit))


def _is_ours(pid: int) -> bool:
    """Return whether a process is this user's: what another one says is no path to open."""
    try:
        return os.stat(f"/proc/{pid}").st_uid == os.geteuid()
    except OSError:
        return False


def _environment(pids: Sequence[int]) -> dict[str, str]:
    """Return the environment of the first of some processes."""
    found = {}
    with contextlib.suppress(OSError):
        for pid in pids:
            for entry in proc.environment(pid).split(b"\0"):
                name, _, value = entry.partition(b"=")
                found[os.fsdecode(name)] = os.fsdecode(value)
    return found


def _directory(pid: int) -> str:
    """Return the working directory of a process, '' if that is hidden."""
    try:
        return os.readlink(f"/proc/{pid}/cwd").removesuffix(_GONE)
    except OSError:
        return ""


def _folder(pid: int) -> str:
    """Return the name of a process's working directory: ``~`` is the home, '' the root."""
    path = _directory(pid) if _is_ours(pid) else ""
    return "~" if path and path == _home() else one_line(os.path.basename(path))


def _home() -> str:
    return home_of(os.geteuid()).rstrip("/")
