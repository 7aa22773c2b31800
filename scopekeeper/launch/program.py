"""Finds and executes the program of a launch, with its environment. Builtin modules only."""

import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from scopekeeper.owned.claim_at_launch import Handover

NOT_EXECUTABLE = 126
NOT_FOUND = 127
_ENOENT, _ENOEXEC, _ENOTDIR = 2, 8, 20


def original_environment() -> dict[bytes, bytes]:
    """Return the environment that this process was started with.

    Not posix.environ: in the C locale Python adds LC_CTYPE to it (PEP 538).
    """
    fd = posix.open("/proc/self/environ", posix.O_RDONLY | posix.O_CLOEXEC)
    raw = b""
    while chunk := posix.read(fd, 16384):
        raw += chunk
    posix.close(fd)
    environment = {}
    for entry in raw.split(b"\0"):
        name, equals, value = entry.partition(b"=")
        if equals and name not in environment:
            environment[name] = value
    return environment


def find_program(command: str) -> None:
    """Make sure that a command can be found; print why not and exit 126 or 127 otherwise."""
    resolve(command, original_environment())


def resolve(command: str, environment: dict[bytes, bytes]) -> bytes:
    """Find the program as execvp(3) does; exit 126 or 127 before anything is made."""
    name = encoded(command)
    if b"/" in name:
        candidates = [name]
    else:
        folders = environment.get(b"PATH", b"/bin:/usr/bin").split(b":")
        candidates = [folder + b"/" + name if folder else name for folder in folders]
    # PATH may name something that is not a folder; an explicit path may not
    missing = (_ENOENT,) if b"/" in name else (_ENOENT, _ENOTDIR)
    status, reason = NOT_FOUND, "not found"
    for candidate in candidates if name else ():
        try:
            is_file = posix.stat(candidate).st_mode & 0o170000 == 0o100000
        except OSError as error:
            if error.errno not in missing:
                status, reason = NOT_EXECUTABLE, str(error.strerror)
            continue
        if is_file and posix.access(candidate, posix.X_OK):
            return candidate
        status, reason = NOT_EXECUTABLE, "not an executable file"
    return _give_up(f"{command}: {reason}", status)


def execute(
    program: bytes,
    command: list[str],
    environment: dict[bytes, bytes],
    handover: "Handover | None" = None,
    failed: "Callable[[], None] | None" = None,
) -> None:
    """Become the program; if it cannot be executed, call failed, and exit 126 or 127."""
    arguments = [encoded(argument) for argument in command]
    try:
        posix.execve(program, arguments, environment)
    except OSError as error:
        if error.errno == _ENOEXEC:  # a script without #!: execvp(3) runs a shell
            posix.execve(b"/bin/sh", [b"sh", program, *arguments[1:]], environment)
        if failed is not None:
            failed()
        if handover is not None:
            handover.withdraw()  # the command does not run and owns nothing
        status = NOT_FOUND if error.errno == _ENOENT else NOT_EXECUTABLE
        _give_up(f"{command[0]}: {error.strerror}", status)


def _give_up(text: str, status: int) -> "NoReturn":
    """Count and report a command that cannot be executed, and exit."""
    from scopekeeper.history import failed_launches

    failed_launches.count("command")
    say(text)
    posix._exit(status)


def encoded(argument: str) -> bytes:
    """Return the original bytes of an argument."""
    return argument.encode(sys.getfilesystemencoding(), "surrogateescape")


def say(text: str) -> None:
    """Write one line on stderr, safe for a terminal."""
    if not text.isprintable():
        from scopekeeper.safe_text import safe

        text = safe(text)
    try:
        posix.write(2, f"scopekeeper: {text}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        pass  # nobody can read it; the exit status remains
