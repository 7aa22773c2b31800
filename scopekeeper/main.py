"""The entry of ``scopekeeper``: a plain ``run`` launches at once, all else loads the commands.

On the hot path of ``run``: builtin modules only.
"""

import sys


def main() -> None:
    """Be ``scopekeeper``: launch at once where the arguments are plain, else load the rest."""
    from scopekeeper.launch import signals
    from scopekeeper.launch.arguments import parse
    from scopekeeper.launch.run import run

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
    from scopekeeper.cli.main import main as cli

    cli()
