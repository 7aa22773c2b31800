"""Find the scopes in a cgroup2 hierarchy in which other programs make cgroups too.

Scopes can be in the ``scopekeeper.slice`` of any manager, in the delegated cgroup of a service or
a container, and in any cgroup given as ``--placement cgroup:PATH``. So the search descends
everywhere, with two exceptions:

- It skips cgroups of third users: only root and the user whose scopes are wanted can have made a
  folder above one of them.
- It is bounded. Only root makes *free* folders: the top and the system's slices. Everything below
  any other folder is one *delegation*, in which a fixed number of cgroups is read; the search
  reports that it left out the rest.

Free folders, the tops of delegations and every ``scopekeeper.slice`` are read first, so that no
delegation hides another. Only one folder is open at a time.
"""

import os
from collections import deque

from scopekeeper.data import dataclass
from scopekeeper.kernel import cgroupfs
from scopekeeper.kernel.cgroupfs import Unread
from scopekeeper.scope import names
from scopekeeper.systemd.units import SLICE

_MOST = 10_000
"""Cgroups read in one delegation, beside scopes, in a tenth of a second."""
_MOST_SCOPES = 100_000
"""Scopes found in one delegation: ten times as many as any machine had of ours."""
_MOST_REPORTED = 10
"""Problems of one delegation that are reported one by one."""


@dataclass(slots=True)
class _Delegation:
    """A cgroup that others than root can write to, with all below it."""

    top: str
    left: int
    scopes_left: int = _MOST_SCOPES
    reported: int = 0

    def takes(self, is_scope: bool) -> bool:
        """Count one more cgroup; return False if it is one too many."""
        if is_scope:
            self.scopes_left -= 1
            return self.scopes_left >= 0
        self.left -= 1
        return self.left >= 0


@dataclass(frozen=True, slots=True)
class _Folder:
    path: str
    depth: int
    delegation: _Delegation | None
    """None if it is free."""


class Search:
    """Finds the scopes of uid (None: of everybody).

    most is the number of cgroups that are read in one delegation, beside scopes.
    """

    def __init__(self, mount: str, uid: int | None, *, most: int = _MOST) -> None:
        self.found: list[str] = []
        """Directories with the name of a scope."""
        self.unread: list[Unread] = []
        self._most = most
        self._owner = os.stat(mount).st_uid
        """The owner of the top: root, or its mapping in a user namespace."""
        self._leads = None if uid is None else {0, self._owner, uid}
        self._first: deque[_Folder] = deque([_Folder(mount, 0, None)])
        self._others: deque[_Folder] = deque()
        while self._first or self._others:
            self._look((self._first or self._others).popleft())

    def _look(self, folder: _Folder) -> None:
        if folder.delegation is not None and folder.delegation.left <= 0:
            self._leave_out_more(folder.delegation)
            return
        try:
            fd = os.open(folder.path, cgroupfs.FOLDER)
        except OSError as error:
            self._failed(folder, error)
            return
        try:
            self._look_inside(folder, fd)
        except OSError as error:
            self._failed(folder, error)
        finally:
            os.close(fd)

    def _look_inside(self, folder: _Folder, fd: int) -> None:
        delegation = folder.delegation
        with os.scandir(fd) as entries:
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False):
                    continue
                is_scope = names.parse_unit(entry.name) is not None
                if delegation is not None and not delegation.takes(is_scope):
                    self._leave_out_more(delegation)
                    return
                if is_scope:
                    self.found.append(f"{folder.path}/{entry.name}")
                else:
                    self._consider(folder, fd, entry.name)

    def _consider(self, folder: _Folder, fd: int, name: str) -> None:
        """Queue a folder if a scope can be below it."""
        try:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except OSError as error:
            if error.errno in cgroupfs.GONE:
                return
            raise
        if status.st_nlink <= cgroupfs.LINKS_OF_A_LEAF:
            return
        if self._leads is not None and status.st_uid not in self._leads:
            return
        path = f"{folder.path}/{name}"
        delegation = folder.delegation
        if delegation is None and not (status.st_uid == self._owner and name.endswith(".slice")):
            delegation = _Delegation(path, self._most)
        inner = _Folder(path, folder.depth + 1, delegation)
        if delegation is not None and (
            inner.depth > cgroupfs.DEEPEST or len(path) > cgroupfs.LONGEST
        ):
            self._leave_out(delegation, _unit_of(path, delegation), "cgroups nested too deep")
        elif delegation is not folder.delegation or delegation is None or name == SLICE:
            self._first.append(inner)
        else:
            self._others.append(inner)

    def _failed(self, folder: _Folder, error: OSError) -> None:
        if error.errno not in cgroupfs.GONE:
            self._leave_out(folder.delegation, folder.path, error.strerror or str(error))

    def _leave_out_more(self, delegation: _Delegation) -> None:
        self._leave_out(delegation, delegation.top, f"more than {self._most:,} cgroups")

    def _leave_out(self, delegation: _Delegation | None, path: str, problem: str) -> None:
        """Report a folder that is left out; for one delegation a few, then its top for the rest."""
        each = Unread(path, problem)
        if delegation is not None and delegation.reported >= _MOST_REPORTED:
            each = Unread(delegation.top, "more in it could not be read")
        if each not in self.unread:
            self.unread.append(each)
            if delegation is not None:
                delegation.reported += 1


def _unit_of(path: str, delegation: _Delegation) -> str:
    """Return the unit above a cgroup; it says more than a very long path."""
    end = max(path.rfind(".service/"), path.rfind(".scope/"))
    return path[: path.index("/", end)] if end > len(delegation.top) else delegation.top
