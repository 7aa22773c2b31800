"""Look up users in the password database. On the hot path of ``run``: builtin modules only."""

import posix

from scopekeeper.kernel.proc import read


def home_of(uid: int) -> str:
    """Return the home of this process's user from the password database, '' if unknown.

    ``$HOME`` counts only for a user who is not in the database: ``sudo -E`` passes it on to root,
    and services lack it. Most users are in /etc/passwd, and reading that takes a tenth of the time
    of importing and asking pwd.
    """
    found = _entry(uid)
    if found:
        return found[5]
    import pwd

    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:
        home = posix.environ.get(b"HOME", b"").decode("utf-8", "surrogateescape")
        return home if home.startswith("/") else ""


def name_of(uid: int) -> str:
    """Return a user's name, '' if unknown."""
    found = _entry(uid)
    if found:
        return found[0]
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def is_private_group(gid: int) -> bool:
    """Return whether only this user is in a group.

    Where each user has such a group, as on Ubuntu, the umask makes new files writable by it.
    """
    import grp
    import pwd

    try:
        user, group = pwd.getpwuid(posix.getuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    named = group.gr_name == user.pw_name and gid == user.pw_gid
    return named and set(group.gr_mem) <= {user.pw_name}


def _entry(uid: int) -> list[str]:
    """Return the fields of a user's line in /etc/passwd, [] if there is none (passwd(5))."""
    number = str(uid)
    try:
        for line in read("/etc/passwd").split("\n"):
            fields = line.split(":")
            if len(fields) > 5 and fields[2] == number:
                return fields
    except OSError:
        pass
    return []
