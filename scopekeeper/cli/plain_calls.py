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
    from scopekeeper.cli import outcome
    from scopekeeper.cli.exec_run import execute
    from scopekeeper.errors import UsageError
    from scopekeeper.launch import signals

    signals.unwind_by_interrupt()

    def start() -> None:
        try:
            with outcome.interruptible():
                execute(tuple(command), options, detach=True)
        except UsageError as error:
            outcome.point_to_help(error, "scopekeeper exec")
            raise

    _call(start, forgiving=True)


def _call(command: "Callable[[], None]", *, forgiving: bool) -> None:
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
