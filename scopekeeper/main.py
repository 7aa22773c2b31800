"""The entry of ``scopekeeper``: ``run`` and ``hook`` begin at once, all else loads the commands.

On the hot path of ``run``: builtin modules only.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_FAILED = 125


def main() -> None:
    """Be ``scopekeeper``; if a module cannot be loaded, exit with one line."""
    try:
        _main(sys.argv[1:])
    except (ImportError, OSError, MemoryError) as error:
        _cannot_load(error)


def _main(arguments: list[str]) -> None:
    """Launch at once where the arguments are plain, else load the rest."""
    if arguments[:1] == ["hook"] and not {"-h", "--help"}.intersection(arguments):
        from scopekeeper.hook.front import hook

        hook(arguments[1:], command)
    from scopekeeper.launch import signals

    signals.die_by_interrupt()
    if arguments[:1] == ["run"]:
        from scopekeeper.launch.arguments import parse
        from scopekeeper.launch.run import run

        parsed = parse(arguments[1:])
        if parsed is not None:
            run(*parsed)
    command(arguments)


def _cannot_load(error: Exception) -> "NoReturn":
    """Print why, and exit: there may be no descriptor or memory left to load anything for that."""
    import posix

    if posix.environ.get(b"SCOPEKEEPER_DEBUG"):
        raise error
    text = f"scopekeeper: cannot be loaded: {type(error).__name__}: {error}"
    text = "".join(each if each.isprintable() else "?" for each in text)
    try:
        posix.write(2, text.encode("utf-8", "backslashreplace") + b"\n")
    except OSError:
        pass
    posix._exit(_FAILED if sys.argv[1:2] in (["run"], ["exec"]) else 1)


def command(arguments: list[str]) -> None:
    """Run any command, and exit."""
    import gc

    gc.disable()  # for the imports' sake: 4 ms of 60; commands that stay enable it again
    from scopekeeper.cli.plain_calls import answer

    answer(arguments)
    if sys.flags.no_site:
        import site

        site.main()
    from scopekeeper.cli.main import main as cli

    sys.argv[1:] = arguments
    cli()
