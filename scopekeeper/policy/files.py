"""Finds the policy's files, and others beside them.

It decides for every program which files count: those of /etc, and those in this uid's home from the
password database. ``$HOME`` does not count: ``sudo -E`` passes it on, and services of the system
have none, so root's keeper would apply a user's rules to root's scopes, or other rules than root's
commands.
"""

import posix

from scopekeeper.users import home_of, is_private_group

SYSTEM = "/etc/scopekeeper"
VARIABLE = b"SCOPEKEEPER_CONFIG"
"""Names a folder that replaces the one in the home."""
_TYPE, _FILE, _FOLDER = 0o170000, 0o100000, 0o040000


def folders() -> list[str]:
    """Return the folders of policy files, the system's first."""
    named = posix.environ.get(VARIABLE, b"").decode("utf-8", "surrogateescape")
    if named:
        return [SYSTEM, named]
    home = home_of(posix.getuid())
    return [SYSTEM, f"{home}/.config/scopekeeper"] if home else [SYSTEM]


class Found:
    """The files that count, in reading order, and those that do not."""

    __slots__ = ("ignored", "signature", "sources", "what")

    def __init__(self, what: str) -> None:
        self.what = what
        """What the files hold, for people."""
        self.sources: list[str] = []
        """Includes files in the folders themselves that do not exist yet."""
        self.ignored: list[str] = []
        """A sentence for each existing folder or file that does not count."""
        self.signature = ""
        """Changes when one of the sources does."""


def find() -> Found:
    """Find policy files; only those of root and of this uid count."""
    found = Found("the policy")
    parts: list[str] = []
    for folder in _counting(found):
        _add(f"{folder}/config.toml", found, parts)
        more = f"{folder}/config.d"
        try:
            names = sorted(posix.listdir(more))
        except OSError:
            _leads_nowhere(more, found)
            continue
        if _counts(more, _FOLDER, found):
            for name in names:
                if name.endswith(".toml"):
                    _add(f"{more}/{name}", found, parts)
    found.signature = "; ".join(parts).replace("\n", " ")
    return found


def find_file(name: str, what: str) -> Found:
    """Find the files of one name beside the policy; what they hold is for messages."""
    found = Found(what)
    parts: list[str] = []
    for folder in _counting(found):
        _add(f"{folder}/{name}", found, parts)
    found.signature = "; ".join(parts).replace("\n", " ")
    return found


def _counting(found: Found) -> list[str]:
    """Return the folders that count."""
    counting = []
    for folder in folders():
        if not folder.startswith("/"):
            found.ignored.append(f"{found.what} in {folder} is ignored: give its whole path")
        elif _counts(folder, _FOLDER, found):
            counting.append(folder)
    return counting


def _add(path: str, found: Found, parts: list[str]) -> None:
    if not _counts(path, _FILE, found):
        return
    found.sources.append(path)
    try:
        seen = posix.stat(path)
    except OSError:
        return
    parts.append(f"{path} {seen.st_ino} {seen.st_size} {seen.st_mtime_ns} {seen.st_ctime_ns}")


def _counts(path: str, kind: int, found: Found) -> bool:
    """Return whether the file or folder at path counts; a missing one does.

    A link counts by its target: nobody else can put a link into a folder that counts.
    """
    try:
        seen = posix.stat(path)
    except OSError:
        return not _leads_nowhere(path, found)
    if seen.st_mode & _TYPE != kind:
        problem = f"it is no {'directory' if kind == _FOLDER else 'regular file'}"
    elif seen.st_uid not in (0, posix.getuid()):
        problem = f"it belongs to uid {seen.st_uid}"
    elif seen.st_mode & 0o002 or (seen.st_mode & 0o020 and not is_private_group(seen.st_gid)):
        problem = f"others can write to it; chmod go-w {path}"
    else:
        return True
    found.ignored.append(f"{found.what} in {path} is ignored: {problem}")
    return False


def _leads_nowhere(path: str, found: Found) -> bool:
    """Return whether a path that cannot be followed is a link, which is then said."""
    try:
        target = posix.readlink(path)
    except OSError:
        return False
    found.ignored.append(f"{found.what} in {path} is ignored: it is a link to nothing, {target}")
    return True
