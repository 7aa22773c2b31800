"""The entry of ``scopekeeper``: ``run`` and ``hook`` begin at once, all else loads the commands.

On the hot path of ``run``: builtin modules only.
"""

import sys


def main() -> None:
    """Be ``scopekeeper``: launch at once where the arguments are plain, else load the rest."""
    arguments = sys.argv[1:]
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
