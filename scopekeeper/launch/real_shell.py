"""Finds the user's real shell, behind ``scopekeeper-shell``. Builtin modules only."""

import posix

from scopekeeper.launch.program import encoded, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "scopekeeper-shell"
_NO_SHELLS = ("nologin", "false")
"""Shells of users that do not log in; their services run commands all the same."""
LAST = b"/bin/sh"
_MOST_LINKS = 40
LANGUAGES = ("bash", "zsh", "fish", "ksh", "mksh", "dash", "sh")
"""Names of shells. Whoever calls one by name writes in its language."""
_FOLDERS = (b"/bin", b"/usr/bin", b"/usr/local/bin")


def real_shells(file: str, environment: dict[bytes, bytes], called: str = "") -> "Iterator[bytes]":
    """Yield candidates for the real shell, the best first; never this program.

    called is the name that this program was called by. If it is that of a shell, or the password
    database has us under such a name, the candidates with that name go first.
    """
    wanted = environment.get(b"SCOPEKEEPER_SHELL", b"")
    login = login_shell()
    names = [called] if called in LANGUAGES else []
    if not names and base(login) in LANGUAGES and is_ours(login, file):
        names = [base(login)]
    for name in names:
        if base(wanted) == name and not _problem(wanted, file):
            yield wanted
        yield from _named(name, file, environment)
    if wanted and not names:
        problem = _problem(wanted, file)
        if not problem:
            yield wanted
        elif problem != NAME:
            text = wanted.decode("utf-8", "replace")
            say(f"warning: SCOPEKEEPER_SHELL={text}: {problem}")
    if login and base(login) not in _NO_SHELLS and not _problem(login, file):
        yield login
    if not _problem(LAST, file):
        yield LAST


def _named(name: str, file: str, environment: dict[bytes, bytes]) -> "Iterator[bytes]":
    """Yield the programs of a name in PATH and in the usual folders, except this one."""
    for folder in (*environment.get(b"PATH", b"").split(b":"), *_FOLDERS):
        path = folder + b"/" + encoded(name)
        if folder[:1] == b"/" and not _problem(path, file):
            yield path


def name_real_shell(environment: dict[bytes, bytes]) -> None:
    """Set SHELL to the real shell if it names us, for a command that must not use us."""
    named = environment.get(b"SHELL", b"")
    if _leads_to_us(named):
        file = named.decode("utf-8", "surrogateescape")
        environment[b"SHELL"] = next(real_shells(file, environment, base(named)), named)


def login_shell() -> bytes:
    """Return the caller's shell from the password database, local or remote; '' without one."""
    import pwd  # built in

    try:
        return encoded(pwd.getpwuid(posix.getuid()).pw_shell) or LAST
    except (KeyError, OSError):
        return b""


def is_ours(path: bytes, file: str) -> bool:
    """Return whether a path leads to this program, or to another installation of it."""
    try:
        seen, own = posix.stat(path), posix.stat(file)
        if (seen.st_dev, seen.st_ino) == (own.st_dev, own.st_ino):
            return True
    except OSError:
        pass
    return _leads_to_us(path)


def _leads_to_us(path: bytes) -> bool:
    """Return whether a path has our name, or is a link to one that has."""
    for _ in range(_MOST_LINKS):
        if base(path) == NAME:
            return True
        try:
            target = posix.readlink(path)
        except OSError:
            break
        path = target if target[:1] == b"/" else path.rpartition(b"/")[0] + b"/" + target
    return False


def _problem(path: bytes, file: str) -> str:
    """Return why a path cannot be the real shell: '' if it can, our name if it is this program."""
    if path[:1] != b"/":
        return "not a whole path"
    if is_ours(path, file):
        return NAME
    try:
        is_file = posix.stat(path).st_mode & 0o170000 == 0o100000
    except OSError as error:
        return str(error.strerror)
    return "" if is_file and posix.access(path, posix.X_OK) else "not an executable file"


def base(path: bytes) -> str:
    """Return the last part of a path."""
    return path.rpartition(b"/")[2].decode("utf-8", "surrogateescape")
