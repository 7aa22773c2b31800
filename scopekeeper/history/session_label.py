"""The label that a session has for the scopes that it gets later.

A label is in the record of each scope that it was given to. But its session can get more scopes:
in another lane, or when all its members had ended. So ``label`` leaves a symbolic link to the
label's text in the runtime directory. The name of the link has the session and one life of its
owner: another owner's session of that name has no such label, nor has the next life. The launch
that makes a scope reads the link.

On the hot path of ``run`` if there are such links: builtin modules only.
"""

import posix

from scopekeeper.history import launch_ledger
from scopekeeper.scope import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from scopekeeper.scope.model import Owner

_MOST = 1000
"""Links that are kept; nothing else removes those of owners that have ended."""


def of_launch(session: str, owner: dict[str, str]) -> str:
    """Return the label for a new scope, '' if there is none; owner has the fields of a record."""
    life = _life(
        owner.get("OWNER_EPOCH", ""), owner.get("OWNER_PID", ""), owner.get("OWNER_START", ""),
        owner["NAMESPACES"], owner["BOOT"],
    )  # fmt: skip
    if not life:
        return ""
    try:
        label = posix.readlink(_path(session, life).encode()).decode("utf-8", "surrogateescape")
    except OSError:
        return ""
    return label if len(label) <= names.SESSION_MAX else ""


def life_of(owner: "Owner") -> str:
    """Return what names one life of an owner; '' if that is not known."""
    pid, start = owner.pid or "", owner.start_time or ""
    return _life(owner.epoch, str(pid), str(start), owner.namespaces, owner.boot_id)


def remember(session: str, life: str, label: str) -> None:
    """Have the scopes that a session gets later take this label; '' for none.

    Does nothing if there is no runtime directory, or it cannot be written.
    """
    path, folder = _path(session, life), launch_ledger.labels()
    try:
        if not label:
            posix.unlink(path)
            return
        _make(folder)
        new = f"{folder}/.{posix.urandom(8).hex()}"
        posix.symlink(label.encode("utf-8", "surrogateescape"), new.encode())
        posix.rename(new, path)
        _remove_oldest(folder)
    except OSError:
        pass


def _life(epoch: str, pid: str, start: str, namespaces: str, boot: str) -> str:
    if epoch:
        return epoch if epoch != "ended" else ""
    return f"{pid}:{start}:{namespaces}:{boot}" if pid and start else ""


def _path(session: str, life: str) -> str:
    """Return the path of a link; its name is bounded like that of a scope."""
    return f"{launch_ledger.labels()}/{names.unit_name(session, life).removesuffix(names.SUFFIX)}"


def _make(folder: str) -> None:
    for each in (folder.rpartition("/")[0], folder):
        try:
            posix.mkdir(each, 0o755)
            posix.chmod(each, 0o755)  # whatever the umask
        except FileExistsError:
            pass


def _remove_oldest(folder: str) -> None:
    entries = posix.listdir(folder)
    if len(entries) > _MOST:
        entries.sort(key=lambda entry: posix.lstat(f"{folder}/{entry}").st_mtime)
        for entry in entries[:-_MOST]:
            posix.unlink(f"{folder}/{entry}")
