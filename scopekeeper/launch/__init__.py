"""The hot path: ``scopekeeper run`` from its first instruction to the command's.

Start-up time is what users of a wrapper feel, so nothing here imports more than the interpreter
has built in (tests/unit/test_imports.py holds the list); not even ``os``. What the parser here
does not understand goes to the click command, which explains it.
"""

import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from scopekeeper.launch.member import Member, Warnings
    from scopekeeper.launch.place import Caller, Owner, Place
    from scopekeeper.launch.request import Request
    from scopekeeper.owned.launch import Handover

_VALUED = {
    "-s": "session", "-l": "lane", "-n": "name",
    "--session": "session", "--lane": "lane", "--name": "name",
    "--run": "run", "--session-id": "session_id", "--kind": "kind", "--lifetime": "lifetime",
    "--owner": "owner", "--ttl": "ttl", "--grace": "grace", "--memory-max": "memory_max",
    "--memory-high": "memory_high", "--tasks-max": "tasks_max", "--cpu-weight": "cpu_weight",
    "--member-memory-max": "member_memory_max", "--member-tasks-max": "member_tasks_max",
    "--placement": "placement", "--if-unavailable": "if_unavailable",
}  # fmt: skip
_FLAGS = {
    "--replace": "replace", "--own-scope": "own_scope", "--no-bus": "no_bus",
    "--real-shell": "real_shell",
}  # fmt: skip
REPEATED = {"--own": "own", "--require": "require"}
"""Options that may be given again: their values come together with NUL between them."""

_USERS_RULES = "/.config/scopekeeper"

FAILED = 125
"""Exit status where scopekeeper itself failed, as env(1) and timeout(1) have it."""
NOT_EXECUTABLE = 126
NOT_FOUND = 127

_ENOENT, _ENOEXEC, _ENOTDIR = 2, 8, 20


def load_more() -> None:
    """Load what making a scope takes; the direct launcher has a faster way to do it."""


def main() -> None:
    """Be ``scopekeeper``: launch at once where the arguments are plain, else load the rest."""
    from scopekeeper.launch import signals

    signals.die_by_interrupt()
    arguments = sys.argv[1:]
    if arguments[:1] == ["run"]:
        parsed = parse(arguments[1:])
        if parsed is not None:
            run(*parsed)
    import gc

    gc.disable()  # for the imports' sake: 4 ms of 60; commands that stay enable it again
    if sys.flags.no_site:
        import site

        site.main()
    from scopekeeper.cli import main as cli

    cli()


def parse(arguments: list[str]) -> tuple[dict[str, str], list[str]] | None:
    """Split the arguments of ``run`` into options and the command; None if in doubt."""
    options: dict[str, str] = {}
    at = 0
    while at < len(arguments):
        argument = arguments[at]
        if argument == "--":
            at += 1
            break
        if not argument.startswith("-"):
            break
        name, equals, value = argument.partition("=")
        if argument in _FLAGS:
            options[_FLAGS[argument]] = "1"
        elif equals and name[:2] == "--" and name in _VALUED:
            options[_VALUED[name]] = value
        elif argument in _VALUED and at + 1 < len(arguments):
            at += 1
            options[_VALUED[argument]] = arguments[at]
        elif name in REPEATED and (equals or at + 1 < len(arguments)):
            if not equals:
                at += 1
                value = arguments[at]
            key = REPEATED[name]
            options[key] = f"{options[key]}\0{value}" if key in options else value
        else:
            return None
        at += 1
    return (options, arguments[at:]) if at < len(arguments) else None


def run(
    options: dict[str, str],
    command: list[str],
    *,
    last: "Callable[[], None] | None" = None,
    defaults: dict[bytes, bytes] = {},  # noqa: B006
) -> None:
    """Become the command, inside its scope; returns never, exits 125 to 127 where that fails.

    last is called right before; defaults are variables for where there is none of that name.
    """
    from scopekeeper.launch import signals

    signals.die_by_interrupt()
    try:
        _launch(options, command, last, defaults)
    except Exception as error:  # noqa: BLE001  no traceback ever reaches a user
        _fail(error)


def _launch(
    options: dict[str, str],
    command: list[str],
    last: "Callable[[], None] | None",
    defaults: dict[bytes, bytes],
) -> None:
    from scopekeeper.launch import signals

    environment = original_environment()
    if "require" in options:
        from scopekeeper.launch.paths import require

        require(options["require"])
    program = _resolve(command[0], environment)
    inner = defaults | environment
    pipe_ignored = signals.pipe_was_ignored()
    handover = None
    try:
        if "own" in options or "own_scope" in options:
            from scopekeeper.launch.paths import hand_over

            handover = hand_over(options)
        contain(options, command[0], environment, inner)
        if handover is not None:
            handover.bind()
    except Exception as error:
        from scopekeeper.launch.failure import describe, is_unavailable

        if handover is not None:
            handover.withdraw()
            handover = None
        if options.get("if_unavailable") != "warn" or not is_unavailable(error):
            raise
        say(f"warning: running uncontained: {describe(error)}")
        if "own" in options:
            say("warning: --own has no effect: nothing can tell when the last user is gone")
        inner = environment
    drop_bus(inner, options)
    if "real_shell" in options:
        from scopekeeper.launch.shell import name_real_shell

        name_real_shell(inner)
    signals.restore(pipe_ignored=pipe_ignored)
    if last is not None:
        last()
    _execute(program, command, inner, handover)


def drop_bus(inner: dict[bytes, bytes], options: dict[str, str]) -> None:
    """Take the way to the bus out of the command's environment where ``no_bus`` asks for that."""
    if "no_bus" in options:
        for name in (b"DBUS_SESSION_BUS_ADDRESS", b"XDG_RUNTIME_DIR"):
            inner.pop(name, None)  # the second leads to the bus, and to the manager itself


def contain(
    options: dict[str, str],
    command: str,
    environment: dict[bytes, bytes],
    inner: dict[bytes, bytes],
    caller: "Caller | None" = None,
    warn: "Callable[[str], None] | None" = None,
) -> str:
    """Contain this process and write into inner what the command is told about it.

    warn is told what the caller should know although the launch goes on; else stderr is. Returns
    the scope's directory. Raises ScopekeeperError, ValueError, OSError, LookupError.
    """
    from scopekeeper.launch import ledger, place, scope
    from scopekeeper.launch.member import Warnings

    warnings = Warnings()
    caller = caller or place.Caller()
    request, owner, where = plan(options, command, environment, caller, warnings)
    try:
        member, directory = _enter(request, owner, caller, where, warnings)
    except scope.OtherOwnerError:
        request.run = owner.label
        member, directory = _enter(request, owner, caller, where, warnings)
    for text in warnings:
        if warn is not None:
            warn(text)
        else:
            say(f"warning: {text}")
    tell(inner, member)
    ledger.note(member, directory[len(caller.mount) :])
    return directory


def _enter(
    request: "Request", owner: "Owner", caller: "Caller", where: "Place", warnings: "Warnings"
) -> "tuple[Member, str]":
    """Make room, and enter the scope; returns the member that this process is, and where."""
    from scopekeeper.launch import scope
    from scopekeeper.launch.member import Member

    if request.replace:
        from scopekeeper.launch.replace import replace

        replace(request, owner, warnings)
    if request.room:
        from scopekeeper.launch.room import make_room

        make_room(request, owner, where, warnings)
    member = Member(request, owner)
    return member, scope.contain(member, caller, where, warnings)


def plan(
    options: dict[str, str],
    command: str,
    environment: dict[bytes, bytes],
    caller: "Caller",
    warnings: "Warnings",
) -> "tuple[Request, Owner, Place]":
    """Return what is to be launched, whose it is, and where its scope belongs.

    Raises ScopekeeperError, ValueError, OSError, LookupError.
    """
    from scopekeeper.launch import place
    from scopekeeper.launch.request import Request

    rules = None
    if (
        place.exists("/etc/scopekeeper")
        or b"SCOPEKEEPER_CONFIG" in posix.environ
        or place.exists(place.home_of(caller.uid) + _USERS_RULES)
    ):
        from scopekeeper.launch.rules import Rules

        rules = Rules(warnings)
    request = Request(options, environment, command, rules)
    owner = place.find_owner(caller, request.owner, options.get("parent", ""))
    request.session = request.session or owner.label
    outlives = request.lifetime != "gateway"
    return request, owner, place.find(caller, request.placement, outlives=outlives)


def tell(inner: dict[bytes, bytes], member: "Member") -> None:
    """Write into the command's environment which member of which scope it is."""
    request = member.request
    for name, value in (
        ("SESSION", request.session),
        ("LANE", request.lane),
        ("RUN", request.run),
        ("SCOPE", member.unit),
        ("MEMBER", member.leaf),
    ):
        key = b"SCOPEKEEPER_" + name.encode()
        inner.pop(key, None)
        if value:
            inner[key] = value.encode("utf-8", "surrogateescape")
    told = inner.get(b"SCOPEKEEPER_SESSION_ID")
    if told is not None and told.decode("utf-8", "surrogateescape") != request.session_id:
        del inner[b"SCOPEKEEPER_SESSION_ID"]  # of another session, or of another life of this one


def original_environment() -> dict[bytes, bytes]:
    """Return the environment as this process got it.

    Not posix.environ: in the C locale Python has added LC_CTYPE to that (PEP 538).
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
    """Make sure that a command can be found; says why and exits 126 or 127 otherwise."""
    _resolve(command, original_environment())


def _resolve(command: str, environment: dict[bytes, bytes]) -> bytes:
    """Find the program as execvp(3) does; exits 126 or 127 before anything was made."""
    name = encoded(command)
    if b"/" in name:
        candidates = [name]
    else:
        folders = environment.get(b"PATH", b"/bin:/usr/bin").split(b":")
        candidates = [folder + b"/" + name if folder else name for folder in folders]
    # a PATH may name what is no folder; a path that was given may not
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
    say(f"{command}: {reason}")
    posix._exit(status)


def _execute(
    program: bytes,
    command: list[str],
    environment: dict[bytes, bytes],
    handover: "Handover | None" = None,
) -> None:
    arguments = [encoded(argument) for argument in command]
    try:
        posix.execve(program, arguments, environment)
    except OSError as error:
        if error.errno == _ENOEXEC:  # a script without #!, which execvp(3) gives to a shell
            posix.execve(b"/bin/sh", [b"sh", program, *arguments[1:]], environment)
        if handover is not None:
            handover.withdraw()  # what was not started was given nothing
        say(f"{command[0]}: {error.strerror}")
        posix._exit(NOT_FOUND if error.errno == _ENOENT else NOT_EXECUTABLE)


def encoded(argument: str) -> bytes:
    """Return the bytes that an argument came in as."""
    return argument.encode(sys.getfilesystemencoding(), "surrogateescape")


def say(text: str) -> None:
    """Write one line on stderr, safe for a terminal."""
    if not text.isprintable():
        from scopekeeper.safe_text import safe

        text = safe(text)
    try:
        posix.write(2, f"scopekeeper: {text}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        pass  # nobody can read it; the exit status still tells


def _fail(error: Exception) -> None:
    from scopekeeper.launch.failure import describe

    say(describe(error))
    posix._exit(FAILED)
