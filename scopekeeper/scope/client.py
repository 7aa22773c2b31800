"""Finds the client of a launch: the program that talks to what is launched.

On the hot path of ``run``: builtin modules only.
"""

import posix

from scopekeeper.kernel.proc import cgroup_of, environment, read, stat_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

SHELLS = ("sh", "dash", "bash", "zsh", "ksh", "ash", "busybox")
FURTHEST = 16
"""Ancestors that are looked at."""
_INTERPRETERS = ("node", "nodejs", "bun", "deno", "python")
_MAIN_THREAD = "MainThread"
"""What Node.js calls the first thread of every program, from version 24 on."""
_BEFORE_TEXT = ("--eval", "--print", "--require", "--import", "--loader")
_LETTERS_BEFORE_TEXT = frozenset("ceprWX")
"""Options of interpreters after which a text stands that is not the script."""
_SUFFIXES = (".js", ".mjs", ".cjs", ".ts", ".py")
_ANY_PROGRAM = ("index", "main", "cli", "app", "server", "__main__")
"""Names of scripts that do not say which program it is."""
_ENTRIES = ("__main__", "cli", "main")
"""Modules that are the program of the package that they are in."""
_NAME_MAX = 32


def client_of_stdin() -> str:
    """Return the pid of the nearest ancestor that does not share our standard input.

    A client gives each server a pipe or a socket of its own. What stands between them passes it on:
    ``sh -c``, ``npx``, ``uv run``, ``timeout``. If stdin is anything else, it is our parent.
    """
    parent = str(posix.getppid() or 1)  # a parent outside of our PID namespace reads as 0
    try:
        stdin = posix.readlink("/proc/self/fd/0")
        if not stdin.startswith(("pipe:[", "socket:[")):
            return parent
        for _ in range(FURTHEST):
            if posix.readlink(f"/proc/{parent}/fd/0") != stdin or not passes_on(parent):
                break
            above = parent_of(parent)
            if not above or is_systemd(above):
                break
            parent = above
    except (OSError, LookupError):
        pass  # another user's process is not ours to look at: it is no wrapper of our client's
    return parent


def passes_on(pid: str) -> bool:
    """Return whether a process with our stdin runs one command; a script may be a client itself."""
    arguments = read(f"/proc/{pid}/cmdline").split("\0")
    name = arguments[0].rpartition("/")[2].lstrip("-")
    if name not in SHELLS:
        return True
    if name == "busybox":
        arguments = arguments[1:]
    option = arguments[1] if len(arguments) > 1 else ""
    return option[:1] == "-" and option[:2] != "--" and "c" in option


def program_of(pid: str, name: str) -> str:
    """Return the name of a process's program for people; name is its short name.

    A script that an interpreter runs has its own name, ``gemini`` rather than ``node``.
    """
    if name != _MAIN_THREAD and not _is_interpreter(name):
        return name
    try:
        arguments = read(f"/proc/{pid}/cmdline").split("\0")
    except OSError:
        return name
    script = script_of(arguments)
    if script and script not in _ANY_PROGRAM:
        return script[:_NAME_MAX]
    program = file_name(arguments[0])
    return program if name == _MAIN_THREAD and _is_interpreter(program) else name


def script_of(arguments: "Sequence[str]") -> str:
    """Return the file name of the script that an interpreter runs, without its suffix.

    For ``python -m`` it is the module's name, or its package's if the module is that program.
    '' if the command line is that of another program, or has no script.
    """
    if not _is_interpreter(file_name(arguments[0])):
        return ""
    is_module = False
    for argument in arguments[1:]:
        if argument[:1] != "-":
            name = file_name(argument)
            if is_module:
                package, _, last = name.rpartition(".")
                return package if package and last in _ENTRIES else name
            for suffix in _SUFFIXES:
                name = name.removesuffix(suffix)
            return name
        if argument in _BEFORE_TEXT or (
            argument[1:2] != "-" and not _LETTERS_BEFORE_TEXT.isdisjoint(argument)
        ):
            break
        is_module = argument[1:2] != "-" and argument[-1:] == "m"  # also -um
    return ""


def file_name(path: str) -> str:
    """Return the last part of a path."""
    return path.rpartition("/")[2]


def _is_interpreter(name: str) -> bool:
    return name.rstrip("0123456789.") in _INTERPRETERS


def lineage(pid: str, unit_path: str) -> list[str]:
    """Return a process in a service and those of its ancestors that are in it too."""
    chain = [pid]
    try:
        while len(chain) < FURTHEST:
            above = parent_of(chain[-1])
            if not above or not f"{cgroup_of(above)}/".startswith(unit_path + "/"):
                break
            chain.append(above)
    except (OSError, LookupError):
        pass  # hidden from us
    return chain


def is_guest(chain: list[str]) -> bool:
    """Return whether a process in a service is a program of its own rather than the service's.

    chain is its lineage. It is the service's if it is the main process, or if it and all between
    run the same program as the main process (helpers, workers). A terminal emulator, a cron daemon,
    an editor, a CI runner have guests, which end without them. In doubt it is the service's.
    """
    if len(chain) == 1:
        # the main process, or one that has left its parent (a daemon of a guest's)
        return _started_by_systemd(chain[0]) not in ("", chain[0])
    programs = [_program(each) for each in chain]
    return bool(programs[0]) and any(each != programs[0] for each in programs)


def is_systemd(pid: str) -> bool:
    """Return whether a process is a systemd manager: the parent of what lost its own.

    Raises OSError, LookupError.
    """
    return cgroup_of(pid).endswith("/init.scope")


def parent_of(pid: str) -> str:
    """Return the pid of a process's parent, '' if it has none here; raises OSError."""
    stat = stat_of(pid)
    return str(stat.parent or "") if stat is not None else ""


def _program(pid: str) -> str:
    try:
        return posix.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")  # upgraded since
    except OSError:
        return ""  # another user's


def _started_by_systemd(pid: str) -> str:
    """Return the process in whose environment systemd executed it (SYSTEMD_EXEC_PID, since 248)."""
    try:
        for entry in environment(int(pid)).split(b"\0"):
            if entry.startswith(b"SYSTEMD_EXEC_PID="):
                return entry[17:].decode("ascii", "replace")
    except OSError:
        pass
    return ""
