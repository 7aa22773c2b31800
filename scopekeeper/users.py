"""What the password database says about users. On the hot path of ``run``: builtin modules only."""

import posix

from scopekeeper.kernel.proc import read


def home_of(uid: int) -> str:
    """Return the home of this process's user as the password database has it.

    ``$HOME`` counts only for a user who is not in there: ``sudo -E`` hands it on to root, and
    services do not have it. Returns '' where there is neither. Most users are in /etc/passwd, which
    is read in a tenth of the time that pwd takes to load and to ask.
    """
    number = str(uid)
    try:
        for line in read("/etc/passwd").split("\n"):
            fields = line.split(":")
            if len(fields) > 5 and fields[2] == number:  # passwd(5)
                return fields[5]
    except OSError:
        pass
    import pwd

    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:
        home = posix.environ.get(b"HOME", b"").decode("utf-8", "surrogateescape")
        return home if home.startswith("/") else ""
