"""``scopekeeper-prefix``: the program for Claude Code's ``CLAUDE_CODE_SHELL_PREFIX``.

Claude Code starts MCP servers, commands of its Bash tool and hooks as ``PROGRAM 'COMMAND LINE'``.
This program contains itself, if the line is a server or a command, and becomes a shell that runs
the line. On the hot path, as ``run``: builtin modules only. Decisions, and why:

*Which one it is* follows from the process and not from the line (seen with 2.1.332). A command of
the Bash tool is a child of CLAUDE_PID, and its output goes into a file. A hook has the same
variables; a shell is its parent, or has become this program, and its output is read from a pipe. A
server is the client's child in the client's own session (setsid), without the variable
CLAUDE_CODE_CHILD_SESSION, but for one that the client has inherited from another client.

*In doubt, and for a hook,* the line runs as it does without this program, uncontained. A hook may
stop what the client started; it must not be one of these.

*Nothing prevents the command.* If it cannot be contained, it runs uncontained: a server with one
line on its stderr, which clients log; a command without one, since its stderr is data for the
agent. ``SCOPEKEEPER_IF_UNAVAILABLE`` changes that: ``warn`` prints the line for both, ``fail`` does
not run them (125). A machine that is short of memory, as the rules say, does not run them either.

*A server that is wrapped already* is not contained twice: `scopekeeper run` in its line does it.
"""

import posix

from scopekeeper.launch import program, run, shell, signals
from scopekeeper.launch.command_line import (
    command_name,
    executed,
    is_contained,
    of_bash_tool,
    program_name,
)
from scopekeeper.launch.real_shell import LAST, base
from scopekeeper.scope.client import SHELLS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from scopekeeper.kernel.proc import Stat

NAME = "scopekeeper-prefix"
_CHILD = b"CLAUDE_CODE_CHILD_SESSION"
_SESSION = b"CLAUDE_CODE_SESSION_ID"
_PID = b"CLAUDE_PID"
_BASH = b"/bin/bash"
_USAGE = f"""\
Usage: {NAME} COMMAND-LINE

The program for CLAUDE_CODE_SHELL_PREFIX: runs an MCP server or a command of Claude Code in the
scope of its session, and hooks as they are. Put its path under "env" in settings.json.
"""
SERVER, COMMAND, OTHER = "server", "command", "other"


def main(file: str, argv: list[str]) -> None:  # noqa: ARG001  as that of scopekeeper-shell
    """Contain a server or command, and become the shell that runs its line."""
    signals.die_by_interrupt()
    words = argv[1:]
    if len(words) == 1 and words[0] in ("--help", "--version"):
        _print(words[0])
    try:
        environment = program.original_environment()
    except OSError:  # no procfs, as in a fresh chroot
        environment = dict(posix.environ)
    pipe_ignored = signals.pipe_was_ignored()
    if len(words) != 1:
        if not words:
            program.say(f"{NAME}: there is no command line; {NAME} --help shows its use")
            posix._exit(2)
        signals.restore(pipe_ignored=pipe_ignored)
        program.execute(program.resolve(words[0], environment), words, environment)
    line = words[0]
    kind = _kind(line, environment)
    inner = dict(environment)
    if kind != OTHER:
        inner = _contained(kind, line, environment)
    signals.restore(pipe_ignored=pipe_ignored)
    _become(kind, line, inner)


def _print(option: str) -> None:
    from scopekeeper.version import __version__

    text = _USAGE if option == "--help" else f"{NAME} {__version__}\n"
    posix.write(1, text.encode())
    posix._exit(0)


def _kind(line: str, environment: dict[bytes, bytes]) -> str:
    """Return what a line is; OTHER if anything cannot be found out."""
    from scopekeeper.kernel.proc import stat_of

    try:
        parent = stat_of(posix.getppid())
        output = posix.fstat(1).st_mode & 0o170000
    except OSError:
        return OTHER
    if parent is None or not environment.get(_SESSION):
        return OTHER
    if environment.get(_PID) == str(posix.getppid()).encode():
        return COMMAND if output == 0o100000 or of_bash_tool(line) else OTHER
    return SERVER if _is_server(parent, environment) else OTHER


def _is_server(parent: "Stat", environment: dict[bytes, bytes]) -> bool:
    """Return whether the client itself is our parent, and talks to us: see the module docstring."""
    if posix.getsid(0) == posix.getpid() or parent.name.lstrip("-") in SHELLS:
        return False
    if _CHILD not in environment:
        return True
    from scopekeeper.kernel.proc import environment as environment_of

    try:
        of_client = environment_of(posix.getppid()).split(b"\0")
    except OSError:
        return False
    return _CHILD + b"=" + environment[_CHILD] in of_client


def _contained(kind: str, line: str, environment: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Contain this process and return the environment of its command.

    Exits 125 if that fails and SCOPEKEEPER_IF_UNAVAILABLE is ``fail``, or for lack of memory.
    """
    inner = dict(environment)
    asked = environment.get(b"SCOPEKEEPER_IF_UNAVAILABLE")
    try:
        if kind == COMMAND:
            name = command_name(line, base(_shell_of(environment)))
            warn = None if asked == b"warn" else _drop
            shell.contain(name, environment, inner, prompts=False, warn=warn)
        elif not is_contained(line):
            if b"TMUX" in environment:
                from scopekeeper.launch.tmux import wait_until_moved

                wait_until_moved(environment)
            # servers are named after programs: two of `npx` are not two lives of one server
            name = program_name(line, "server")
            run.contain({"name": name, "shared_name": "1"}, name, environment, inner)
    except Exception as error:  # noqa: BLE001  nothing prevents the command
        reason, _ = shell.describe(error)
        if asked == b"fail" or _is_short(error):
            from scopekeeper.errors import FAILED

            program.say(reason)
            posix._exit(FAILED)
        if kind == SERVER or asked == b"warn":
            program.say(f"warning: running uncontained: {reason}")
        return dict(environment)
    return inner


def _is_short(error: Exception) -> bool:
    """Return whether the rules keep the command from starting: the machine is short of memory."""
    try:
        from scopekeeper.errors import ShortageError
    except ImportError:  # a broken installation
        return False
    return isinstance(error, ShortageError)


def _drop(text: str) -> None:
    """Do not print a warning: the stderr of a command is data for the agent."""


def _shell_of(environment: dict[bytes, bytes]) -> bytes:
    """Return the shell of the Bash tool, which sets SHELL to it (bash or zsh)."""
    named = environment.get(b"SHELL", b"")
    return named if named[:1] == b"/" and base(named) in SHELLS else _BASH


def _become(kind: str, line: str, environment: dict[bytes, bytes]) -> None:
    shells = [LAST]
    if kind == COMMAND or of_bash_tool(line):
        shells = [_shell_of(environment), _BASH, LAST]
    elif kind == SERVER:
        line = executed(line)
    word = program.encoded(line)
    for each in shells:
        try:
            posix.execve(each, [each.rpartition(b"/")[2], b"-c", word], environment)
        except OSError as error:
            if each == LAST:
                program.say(f"{each.decode()}: {error.strerror}")
    posix._exit(program.NOT_EXECUTABLE)
