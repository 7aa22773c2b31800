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


def real_shells(file: str, environment: dict[bytes, bytes]) -> "Iterator[bytes]":
    """Yield candidates for the real shell, the best first; never this program."""
    wanted = environment.get(b"SCOPEKEEPER_SHELL", b"")
    if wanted:
        problem = _problem(wanted, file)
        if not problem:
            yield wanted
        elif problem != NAME:
            text = wanted.decode("utf-8", "replace")
            say(f"warning: SCOPEKEEPER_SHELL={text}: {problem}")
    login = login_shell()
    if login and base(login) not in _NO_SHELLS and not _problem(login, file):
        yield login
    if not _problem(LAST, file):
        yield LAST


def name_real_shell(environment: dict[bytes, bytes]) -> None:
    """Set SHELL to the real shell if it names us, for a command that must not use us."""
    named = environment.get(b"SHELL", b"")
    if base(named) == NAME:
        file = named.decode("utf-8", "surrogateescape")
        environment[b"SHELL"] = next(real_shells(file, environment), named)


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
