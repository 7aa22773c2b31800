"""``run --scratch``: a folder that a member has as TMPDIR, and that is removed after it.

It is an owned path like any other, made by the launch. It lies on the disk of its user, not in the
runtime directory, which is a small file system in memory; and not in /var/tmp, where others could
make a folder of that name first, and where systemd-tmpfiles removes what is old.

The launch makes and claims it while it holds the lock of the claims. If it is killed in between, an
empty folder stays that nobody claims: ``sweep`` removes that, and only that.
"""

import contextlib
import dataclasses
import os
import re
import stat
import time
from collections.abc import Collection

from scopekeeper.errors import StateError, UsageError
from scopekeeper.kernel.proc import mount_point
from scopekeeper.owned import check
from scopekeeper.owned.claim import ASIDE, Claim, raw
from scopekeeper.owned.holders import Here
from scopekeeper.owned.store import ClaimStore
from scopekeeper.users import home_of, is_private_group

VARIABLE = "SCOPEKEEPER_SCRATCH"
"""Names another folder to make them in."""
_HINT = f"{VARIABLE}=FOLDER names another place"
_OF_ROOT = "/var/cache/scopekeeper/tmp"
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NAME, _LANE, _ALL = 12, 8, 30
"""Characters of a member's name, of its lane, and of both with the session.

Programs make sockets in TMPDIR, whose paths have 107 bytes at most (unix(7)).
"""


class ScratchFolder:
    """The scratch folder of this process, made for the member that it becomes."""

    def __init__(self, session: str, lane: str, name: str, most: int) -> None:
        """Make and claim it; raises StateError, RefusedError, UsageError, LookupError.

        most is the size in bytes above which it is reported, 0 for none.
        """
        self._here = Here(mount_point())
        self._store = ClaimStore.make()
        self.path = f"{_made(base())}/{folder_name(session, lane, name)}"
        claim_id = os.urandom(8).hex()
        with self._store.locked():
            try:
                _mkdir(self.path)
            except OSError as error:
                raise _failed(self.path, error) from None
            try:
                thing = check.examine(self.path, is_new=True)
                holder = self._here.launch(whole_scope=False)
                made = time.time_ns() // 1000
                self._claim = Claim(claim_id, self.path, thing, holder, made, scratch_max=most)
                self._store.write(self._claim)
            except Exception:
                os.rmdir(self.path)
                raise

    def bind(self) -> bytes:
        """Bind it to the leaf that this process is in, and return its path.

        Raises StateError, OSError.
        """
        with self._store.locked():
            holder = self._here.arrived(self._claim.holder)
            self._store.update(dataclasses.replace(self._claim, holder=holder))
        return raw(self.path)

    def withdraw(self) -> None:
        """Remove it, since the command does not run; what fails here is due later."""
        with contextlib.suppress(OSError, StateError):
            os.rmdir(self.path)
            self._store.remove(self._claim)


def base() -> str:
    """Return the folder in which scratch folders are made; raises UsageError, StateError."""
    wanted = os.environ.get(VARIABLE, "")
    if wanted:
        if not wanted.startswith("/"):
            raise UsageError(f"{VARIABLE} is {wanted!r}", "give the whole path")
        return _plain(f"{os.path.realpath(wanted)}/scopekeeper-{os.geteuid()}")
    if os.geteuid() == 0:
        return _OF_ROOT
    cache, home = os.environ.get("XDG_CACHE_HOME", ""), home_of(os.geteuid())
    if not cache.startswith("/"):
        if not home:
            raise StateError(f"uid {os.geteuid()} has no home for a scratch folder", _HINT)
        cache = f"{home}/.cache"
    return _plain(f"{os.path.realpath(cache)}/scopekeeper/tmp")


def folder_name(session: str, lane: str, name: str) -> str:
    """Return a new name that shows whose it is: at most 41 characters, none of them special."""
    name, lane = _safe(name)[:_NAME], _safe(lane)[:_LANE]
    session = _safe(session)[: _ALL - len(name) - len(lane)]
    return f"{session}-{lane}-{name}-{os.urandom(4).hex()}"


def sweep(claims: Collection[Claim]) -> None:
    """Remove empty folders that nobody claims; call it only with the claims locked."""
    with contextlib.suppress(OSError, StateError, UsageError):
        folder = base()
        if not claims and not os.path.isdir(folder):
            return
        claimed = {claim.path for claim in claims}
        fd = os.open(folder, _OPEN)
        try:
            for entry in os.listdir(fd):
                path = f"{folder}/{_plain(entry)}"
                if path not in claimed and not entry.startswith(ASIDE):
                    with contextlib.suppress(OSError):  # it is not empty, or no folder
                        os.rmdir(entry, dir_fd=fd)
        finally:
            os.close(fd)


def _made(folder: str) -> str:
    """Make the folder for scratch folders, and return it; raises StateError."""
    try:
        if os.environ.get(VARIABLE):
            _check_shared(os.path.dirname(folder))
        missing = [folder]
        while not os.path.lexists(above := os.path.dirname(missing[-1])):
            missing.append(above)
        for each in reversed(missing):
            with contextlib.suppress(FileExistsError):
                _mkdir(each)
        _reopen(folder)
        fd = os.open(folder, _OPEN)
        try:
            found = os.fstat(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise _failed(folder, error) from None
    if found.st_uid != os.geteuid() or _is_open(found):
        whose = f"belongs to uid {found.st_uid} or can be written by others"
        raise StateError(f"cannot make a scratch folder: {folder} {whose}", _HINT)
    return folder


def reopen() -> None:
    """Restore our access to the folder of all scratch folders, if a member took it away."""
    with contextlib.suppress(OSError, StateError, UsageError):
        _reopen(base())


def _reopen(folder: str) -> None:
    if os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if found.st_uid == os.geteuid():
            os.chmod(f"/proc/self/fd/{fd}", stat.S_IMODE(found.st_mode) | stat.S_IRWXU)
    finally:
        os.close(fd)


def _mkdir(path: str) -> None:
    os.mkdir(path, 0o700)
    os.chmod(path, 0o700)  # whatever the umask


def _check_shared(folder: str) -> None:
    """Raise StateError if others can exchange what is in a folder; raises OSError."""
    found = os.stat(folder)
    can_exchange = _is_open(found) and not found.st_mode & stat.S_ISVTX
    if found.st_uid not in (0, os.geteuid()) or can_exchange:
        text = f"cannot make a scratch folder: others can exchange what is in {folder}"
        raise StateError(text, _HINT)


def _is_open(found: os.stat_result) -> bool:
    """Return whether others can write to a folder."""
    by_group = found.st_mode & stat.S_IWGRP and not is_private_group(found.st_gid)
    return bool(by_group or found.st_mode & stat.S_IWOTH)


def _failed(path: str, error: OSError) -> StateError:
    return StateError(f"cannot make the scratch folder {path}: {error.strerror}", _HINT)


def _safe(text: str) -> str:
    return re.sub("[^A-Za-z0-9_.]", "_", text).lstrip(".") or "_"


def _plain(path: str) -> str:
    """Return a path as claims write it: bytes that are not UTF-8 as surrogate escapes."""
    return os.fsencode(path).decode("utf-8", "surrogateescape")
