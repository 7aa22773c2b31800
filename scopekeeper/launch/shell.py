"""``scopekeeper-shell``: the program for ``SHELL=``; contains itself and becomes the real shell.

All arguments belong to the real shell: settings come from the environment and the lane's rules.
On the hot path, as ``run``: builtin modules only. Decisions, and why:

*A terminal of its own gets a scope of its own*: the process leads the session of the terminal (as
PTY libraries, tmux, sshd and login start it), or is interactive on its controlling terminal
(``su -``). A ``-c`` in another program's terminal (``:!make`` of an editor, a gateway that was
started by hand and passes its stderr on) is a job of that program, and joins its session's scope.

*Inside a member* whose scope has the identity in the environment, scopes are not nested without
need. A terminal run is one unit with all its shells and terminals: everything started there stays.
An MCP server or command that opens a terminal gets a scope for it. A command without a terminal
joins as a member, with the lifetime of the outer one.

*A ``-c`` at a terminal that a client made* ends with the client, as its commands without a terminal
do: nobody can reach that terminal any more. Other shells with a terminal outlive their owner.

*SHELL* then names the real shell if it named us. Programs choose a syntax by its last part
(editors, fzf, script), and their children stay in their shell's cgroup anyway.

*Called by the name of a shell*, as by a link `bash` to it, it becomes the first shell of that name
in PATH that is not this program: the caller writes in the language of that shell.

*The first word* is the real shell's name, with the ``-`` of a login shell if that was given: zsh
and busybox choose their behaviour by that name.

*If containment fails*, an interactive shell runs uncontained, with one line on stderr: a login must
not depend on cgroup2. A ``-c`` does the same if the password database names us and no session is
set: that is ssh, su or cron. A call by the name of a shell runs uncontained as well if the machine
is the reason: it has to replace that shell. Any other command does not run (125): a gateway relies
on containment.
``SCOPEKEEPER_IF_UNAVAILABLE`` (``fail``, ``warn``) overrides both.
"""

import posix

from scopekeeper.launch import program, run, signals
from scopekeeper.launch.real_shell import (
    LANGUAGES,
    LAST,
    base,
    is_ours,
    login_shell,
    real_shells,
)
from scopekeeper.launch.shell_arguments import ShellArguments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scopekeeper.scope.placement import Caller

_TRIED = b"SCOPEKEEPER_SHELL_TRIED"
"""Holds the pid if the real shell is a script: if the script calls us, this detects the loop."""
_IDENTITY = ("SESSION", "LANE", "RUN")


def main(file: str, argv: list[str]) -> None:
    """Become the real shell, contained; file is the path of scopekeeper-shell."""
    signals.die_by_interrupt()
    try:
        environment = program.original_environment()
    except OSError:  # no procfs, as in a fresh chroot
        environment = dict(posix.environ)
    form = ShellArguments(argv[0], argv[1:])
    pipe_ignored = signals.pipe_was_ignored()
    called = argv[0].rpartition("/")[2].removeprefix("-")
    if environment.pop(_TRIED, b"") == str(posix.getpid()).encode():
        shells = iter((LAST,))
    else:
        shells = real_shells(file, environment, called)
    shell = next(shells, b"")
    if not shell:
        program.say("there is no shell: /bin/sh is missing")
        posix._exit(program.NOT_FOUND)
    prompts = not form.runs_command and (form.login or form.interactive or _is_terminal(0))
    inner = dict(environment)
    try:
        contain(form.name(base(shell)), environment, inner, prompts=prompts)
    except Exception as error:  # noqa: BLE001  a user without a shell cannot repair anything
        reason, unavailable = describe(error)
        is_named = called in LANGUAGES
        if not _goes_on(file, environment, prompts, is_named=is_named, unavailable=unavailable):
            from scopekeeper.errors import FAILED

            program.say(reason)
            posix._exit(FAILED)
        program.say(f"warning: this shell runs uncontained: {reason}")
        inner = dict(environment)
    signals.restore(pipe_ignored=pipe_ignored)
    _become(shell, shells, file, argv, inner)


def _is_script(path: bytes) -> bool:
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return False
    try:
        return posix.read(fd, 2) == b"#!"
    finally:
        posix.close(fd)


def _is_terminal(fd: int) -> bool:
    """Return whether a descriptor is the controlling terminal."""
    try:
        posix.tcgetpgrp(fd)
    except OSError:
        return False
    return True


def _has_terminal(*, prompts: bool) -> bool:
    """Return whether this shell has a terminal of its own: see the module docstring."""
    if posix.getsid(0) != posix.getpid():
        return prompts and _is_terminal(0)
    if _is_terminal(0) or _is_terminal(1) or _is_terminal(2):
        return True
    try:
        posix.close(posix.open("/dev/tty", posix.O_RDWR | posix.O_NOCTTY | posix.O_CLOEXEC))
    except OSError:
        return False
    return True


def contain(
    name: str,
    environment: dict[bytes, bytes],
    inner: dict[bytes, bytes],
    *,
    prompts: bool,
    warn: "Callable[[str], None] | None" = None,
) -> None:
    """Contain this process as a member with this name, and add its identity to inner.

    Warnings go to warn, or to stderr. Raises ScopekeeperError, ValueError, OSError, LookupError.
    """
    from scopekeeper.scope.placement import Caller

    server = ""
    if b"TMUX" in environment:
        from scopekeeper.launch.tmux import wait_until_moved

        server = wait_until_moved(environment)
    caller = Caller()
    terminal = _has_terminal(prompts=prompts)
    described = dict(environment)
    options = choose(*_surroundings(caller), described, terminal=terminal)
    if options is not None and terminal and not prompts and _is_of_client():
        options["of_client"] = "1"
    if options is not None and prompts:
        options["ungated"] = "1"  # somebody may have come to free the memory
    if options is not None:
        run.contain(options | {"name": name}, name, described, inner, caller, warn)
        if server and terminal:
            _warn_of_other_session(server, caller, inner)


def _is_of_client() -> bool:
    """Return whether a client has started this process."""
    from scopekeeper import launch

    launch.load_later("scopekeeper.clients.identity")
    from scopekeeper.clients.identity import is_client

    return is_client(str(posix.getppid()))


def _warn_of_other_session(server: str, caller: "Caller", inner: dict[bytes, bytes]) -> None:
    """Warn if our terminal's server ends with another session than ours."""
    from scopekeeper.launch.tmux import session_of

    session = session_of(server, caller.mount)
    if session and session.encode("utf-8", "surrogateescape") != inner.get(b"SCOPEKEEPER_SESSION"):
        program.say(
            f"warning: this terminal ends with session {session}, where its tmux server "
            f"(pid {server}) was started; start that by scopekeeper run -s tmux --lifetime detached"
        )


def _surroundings(caller: "Caller") -> tuple[dict[str, str] | None, dict[str, str]]:
    """Return the records of the member that we run in and of its scope."""
    from scopekeeper.kernel.proc import attribute
    from scopekeeper.scope import records

    if caller.enclosing is None:
        return None, {}
    raw = attribute(caller.scope_directory, records.ATTRIBUTE)
    return (caller.enclosing, records.loads(raw, records.OF_SCOPE)) if raw else (None, {})


def choose(
    member: dict[str, str] | None,
    scope: dict[str, str],
    environment: dict[bytes, bytes],
    *,
    terminal: bool,
) -> dict[str, str] | None:
    """Return the options of this launch; None to stay in the current scope.

    If the launch belongs to the current scope, write the scope's identity into the environment.
    """
    # members are named after commands: two of one name are not two lives of one server
    options = {"kind": "pty" if terminal else "exec", "shared_name": "1"}
    if member is None:
        return options
    if member.get("PID") == str(posix.getpid()):
        return None  # this very process was launched as a member: `run -- scopekeeper-shell`
    said = {name: environment.get(b"SCOPEKEEPER_" + name.encode()) for name in _IDENTITY}
    known = {name: scope.get(name, "").encode("utf-8", "surrogateescape") for name in _IDENTITY}
    if any(value and value != known[name] for name, value in said.items()):
        return options
    if member.get("KIND") == "pty":
        return None
    for name, value in known.items():
        environment[b"SCOPEKEEPER_" + name.encode()] = value
    if not terminal and "LIFETIME" in member:
        options["lifetime"] = member["LIFETIME"]
    return options


def describe(error: Exception) -> tuple[str, bool]:
    """Count the failure; return one line, and whether the machine failed and not the call."""
    try:
        from scopekeeper.launch.failure import is_unavailable, reported

        return reported(error), is_unavailable(error)
    except Exception:  # noqa: BLE001  a broken installation, or no procfs
        return f"{type(error).__name__}: {error}", True


def _goes_on(
    file: str,
    environment: dict[bytes, bytes],
    prompts: bool,
    *,
    is_named: bool,
    unavailable: bool,
) -> bool:
    """Return whether the shell runs uncontained: see the module docstring."""
    said = environment.get(b"SCOPEKEEPER_IF_UNAVAILABLE")
    if said == b"fail":
        return False
    if prompts or ((said == b"warn" or is_named) and unavailable):
        return True
    return b"SCOPEKEEPER_SESSION" not in environment and is_ours(login_shell(), file)


def _become(
    shell: bytes,
    others: "Iterator[bytes]",
    file: str,
    argv: list[str],
    environment: dict[bytes, bytes],
) -> None:
    named = is_ours(environment.get(b"SHELL", b""), file)
    arguments = [program.encoded(argument) for argument in argv[1:]]
    dash = b"-" if argv[0].startswith("-") else b""
    for each in (shell, *others):  # a shell can lack its loader, as in a half-made root
        if named:
            environment[b"SHELL"] = each
        if _is_script(each):
            environment[_TRIED] = str(posix.getpid()).encode()
        try:
            posix.execve(each, [dash + each.rpartition(b"/")[2], *arguments], environment)
        except OSError as error:
            program.say(f"{each.decode('utf-8', 'replace')}: {error.strerror}")
    posix._exit(program.NOT_EXECUTABLE)
