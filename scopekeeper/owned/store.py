"""Store the claims: one small file each in ``owned`` of the state folder.

A file appears whole and durable, or not at all. Unreadable files are reported, never deleted. There
are two locks: the folder's own is held briefly, while claims are made, judged or dropped; the one
on ``.release`` is held while a process removes paths.
"""

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass

from scopekeeper import regular_files, state, whole_file
from scopekeeper.errors import StateError
from scopekeeper.owned import claim as claims
from scopekeeper.owned.claim import Claim
from scopekeeper.scope import records

_SUFFIX = ".claim"
_OF_CONTAINER = ".container"
"""Earlier versions skip it: they know only claims of paths."""
_SUFFIXES = (_SUFFIX, _OF_CONTAINER)
_PATIENCE = 10.0
"""Seconds to wait for a lock."""
_MOST = 1 << 16
"""Bytes of a claim: two escaped paths and a few words."""


@dataclass(frozen=True, slots=True)
class Damaged:
    """A file that should be a claim, and why it cannot be read."""

    file: str
    problem: str


class ClaimStore:
    """The claims in one folder."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    @classmethod
    def make(cls) -> "ClaimStore":
        """Return this user's store, made durably if it was missing; raises StateError."""
        above = str(state.make())
        folder = f"{above}/owned"
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o700)
                whole_file.sync_folder(above)
                whole_file.sync_folder(os.path.dirname(above))
        except OSError as error:
            raise StateError(f"cannot make {folder}: {error.strerror}") from None
        return cls(folder)

    @classmethod
    def find(cls) -> "ClaimStore | None":
        """Return this user's store, None if there was never a claim; raises StateError."""
        folder = f"{state.directory()}/owned"
        try:
            os.lstat(folder)
        except FileNotFoundError:
            return None
        except OSError as error:  # what cannot be read may be there
            raise StateError(f"{folder}: {error.strerror}") from None
        return cls(folder)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the claims against changes; raises StateError."""
        fd = self._open()
        try:
            _lock(fd, self.folder)
            yield
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def releasing(self) -> Iterator[None]:
        """Lock out other processes that remove paths; raises StateError."""
        os.close(self._open())
        path = f"{self.folder}/.release"
        try:
            fd = regular_files.open_regular(path, os.O_RDONLY | os.O_CREAT)
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.ENOSPC, errno.EDQUOT):
                raise StateError(f"{path}: {error.strerror}") from None
            fd = -1  # no room to make it: two processes may remove at once, which is harmless
        try:
            if fd >= 0:
                _lock(fd, path)
            yield
        finally:
            if fd >= 0:
                os.close(fd)

    def _open(self) -> int:
        """Open the folder; refuses one in which others can write claims."""
        try:
            fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise StateError(f"{self.folder}: {error.strerror}") from None
        found = os.fstat(fd)
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o022:
            os.close(fd)
            raise StateError(
                f"{self.folder} belongs to uid {found.st_uid} or can be written by others",
                "what it asks for is not done; use a folder of your own, mode 0700",
            )
        return fd

    def read(self) -> tuple[list[Claim], list[Damaged]]:
        """Return all claims, oldest first, and unreadable files; raises StateError."""
        found, damaged = [], []
        fd = self._open()
        try:
            entries = sorted(each for each in os.listdir(fd) if each.endswith(_SUFFIXES))
        except OSError as error:
            raise StateError(f"{self.folder}: {error.strerror}") from None
        finally:
            os.close(fd)
        for entry in entries:
            path = f"{self.folder}/{entry}"
            try:
                content = regular_files.read(path, _MOST)
                claim = claims.loads(entry.partition(".")[0], content)
                if self._path(claim) == path:
                    found.append(claim)
                else:
                    damaged.append(Damaged(path, "its name is that of another kind of claim"))
            except FileNotFoundError:
                continue
            except OSError as error:
                damaged.append(Damaged(path, str(error.strerror)))
            except records.RecordError as error:
                damaged.append(Damaged(path, str(error)))
        return sorted(found, key=lambda claim: (claim.made, claim.claim_id)), damaged

    def write(self, claim: Claim) -> None:
        """Write or replace a claim, so that it survives a power cut; raises StateError."""
        try:
            whole_file.replace(self._path(claim), claims.dumps(claim), durable=True)
        except OSError as error:
            raise StateError(f"cannot write to {self.folder}: {error.strerror}") from None

    def update(self, claim: Claim) -> None:
        """Replace a claim if it still exists; raises StateError."""
        if os.path.exists(self._path(claim)):
            self.write(claim)

    def remove(self, claim: Claim) -> None:
        """Remove a claim durably; raises StateError."""
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path(claim))
                whole_file.sync_folder(self.folder)
        except OSError as error:
            raise StateError(f"cannot write to {self.folder}: {error.strerror}") from None

    def sweep(self) -> None:
        """Remove leftovers of killed writers; call it only with the claims locked."""
        for entry in os.listdir(self.folder):
            if entry.startswith(whole_file.TEMPORARY):
                with contextlib.suppress(OSError):
                    os.unlink(f"{self.folder}/{entry}")

    def _path(self, claim: Claim) -> str:
        return f"{self.folder}/{claim.claim_id}{_suffix(claim)}"


def _suffix(claim: Claim) -> str:
    return _SUFFIX if claim.container is None else _OF_CONTAINER


def _lock(fd: int, path: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise StateError(
                    f"{path} has been locked by another process for {_PATIENCE:.0f} s", "try again"
                ) from None
            time.sleep(0.005)
        except OSError as error:
            raise StateError(f"cannot lock {path}: {error.strerror}") from None
        else:
            return
