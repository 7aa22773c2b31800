"""Calls that need no parser: they are answered without click.

click takes four times as long to import as the interpreter takes to start. Every other call, and
any doubt, is left to it: ``answer`` then returns without having done anything.
"""

import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

COMPLETE = b"_SCOPEKEEPER_COMPLETE"
"""The variable that a shell sets to ask click for completions."""


def answer(arguments: list[str]) -> None:
    """Answer a call and exit; return if click has to."""
    if COMPLETE in posix.environ or not arguments:
        return
    if arguments == ["--version"]:
        _version()
    elif arguments == ["ls"]:
        _ls()
    elif arguments[0] == "exec":
        _exec(arguments[1:])
    elif arguments[0] == "stop":
        _stop(arguments[1:])
    elif arguments[0][:1] not in ("-", ""):
        _unknown(arguments[0])


def _version() -> None:
    from scopekeeper.version import __version__

    line = f"scopekeeper {__version__}\n".encode()
    try:
        is_written = posix.write(1, line) == len(line)
    except OSError:  # click's way reports it
        return
    if is_written:
        sys.exit(0)


def _unknown(name: str) -> None:
    """Report a command that does not exist."""
    from scopekeeper.cli.commands import COMMANDS, MEANT

    if name in COMMANDS or sys.stderr is None or sys.stderr.encoding != "utf-8":
        return
    from scopekeeper.cli.unknown_command import error_of, with_help
    from scopekeeper.safe_text import safe

    sys.stderr.write(f"scopekeeper: {safe(with_help(error_of(name, COMMANDS, MEANT)))}\n")
    sys.exit(2)


def _ls() -> None:
    """List all scopes of the caller."""
    from scopekeeper.cli.list_view import ListOptions
    from scopekeeper.cli.ls_list import show
    from scopekeeper.scope.selection import Selector

    _call(lambda: show(Selector(), (), ListOptions()), forgiving=False)


_DETACH = {"-d": "detach", "--detach": "detach"}
NOT_OF_EXEC = ("run", "kind", "if_unavailable", "stderr")
"""Options of ``run`` that ``exec`` has not."""


def _exec(arguments: list[str]) -> None:
    """Start a detached run, if no option is given but those that ``run`` has too."""
    from scopekeeper.launch.arguments import parse

    parsed = parse(arguments, _DETACH)
    if parsed is None or b"SCOPEKEEPER_DETACH_KEYS" in posix.environ:
        return
    options, command = parsed
    if "detach" not in options or not options.keys().isdisjoint(NOT_OF_EXEC):
        return
    del options["detach"]
    from scopekeeper.cli.exec_run import execute

    _act("exec", lambda: execute(tuple(command), options, detach=True))


OF_STOP = {
    "-s": "session", "-l": "lane", "-n": "name",
    "--session": "session", "--lane": "lane", "--name": "name", "--run": "run",
    "--session-id": "session_id", "--grace": "grace", "--note": "note",
}  # fmt: skip


def _stop(arguments: list[str]) -> None:
    """Stop what words and names select, if no other option is given."""
    words: list[str] = []
    given: dict[str, str] = {}
    rest = iter(arguments)
    for argument in rest:
        value = argument
        if argument.startswith("-"):
            name, equals, value = argument.partition("=")
            key = OF_STOP.get(name, "")
            if not equals:
                value = next(rest, "")
            if key in given or not key or (equals and name[:2] != "--") or value.startswith("-"):
                return
            given[key] = value
        else:
            words.append(argument)
        if not value:  # click's way explains it
            return
    from scopekeeper.cli.stop_run import execute
    from scopekeeper.scope.selection import Selector

    selector = Selector(
        session=given.get("session"), lane=given.get("lane"), run=given.get("run"),
        session_id=given.get("session_id"), name=given.get("name"),
    )  # fmt: skip
    grace, note = given.get("grace"), given.get("note", "")
    _act("stop", lambda: execute(selector, tuple(words), grace=grace, note=note))


def _act(name: str, command: "Callable[[], object]") -> None:
    """Call a command that cleans up, or reports what it has begun, when it is interrupted."""
    from scopekeeper.cli import outcome
    from scopekeeper.errors import UsageError
    from scopekeeper.launch import signals

    def act() -> object:
        try:
            with outcome.interruptible():
                signals.unwind_by_interrupt()
                return command()
        except UsageError as error:
            outcome.point_to_help(error, f"scopekeeper {name}")
            raise

    _call(act, forgiving=True)


def _call(command: "Callable[[], object]", *, forgiving: bool) -> None:
    """Call a command as the way by click does, and exit."""
    from scopekeeper.cli import outcome, output

    out = output.prepare(forgiving=forgiving)
    try:
        status = output.finish(out, outcome.of(command))
    except KeyboardInterrupt:  # of a command that cleans up after one, and was done with that
        from scopekeeper.launch import signals

        signals.die()
        raise
    sys.exit(status)
