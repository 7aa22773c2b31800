"""Runs one command. Only that command's module is imported: click alone takes 25 ms."""

import importlib
import os
import sys

import click

from scopekeeper.cli import option_errors, outcome, output
from scopekeeper.cli.commands import COMMANDS, GROUPS, MEANT
from scopekeeper.cli.examples import examples
from scopekeeper.cli.group import Group
from scopekeeper.errors import FAILED
from scopekeeper.launch import signals
from scopekeeper.version import __version__

COMPLETE = "_SCOPEKEEPER_COMPLETE"
"""The variable that a shell sets to ask click for completions."""

_ACTING = {
    "attach", "send", "exec", "wait", "stop", "reconcile", "adopt", "keeper", "own", "disown",
    "wrap", "unwrap", "install", "uninstall", "openclaw", "bugreport", "setup", "report",
}  # fmt: skip
"""Commands that act: if their output cannot be written, they go on, and their exit status is that
of the action."""
_TIDY_UP = frozenset(("exec", "wrap", "unwrap", "install", "uninstall", "openclaw", "doctor",
                       "bugreport", "stop", "reconcile", "send", "setup", "report"))  # fmt: skip
"""Commands that undo unfinished work when interrupted, or say what they have begun. The others may
stop at any moment, and exit at once."""


_SHOWING = {
    "stop": {"--dry-run"}, "reconcile": {"--dry-run"},
    "own": {"--list"}, "openclaw": {"--dry-run", "status"},
    "wrap": {"--dry-run", "--check"}, "unwrap": {"--dry-run"},
    "install": {"--dry-run"}, "setup": {"--dry-run"}, "uninstall": {"--dry-run"},
    "bugreport": {"-", "-o-", "--output=-"}, "report": {"-"},
}  # fmt: skip
"""Arguments that make an acting command only print."""


class _Commands(Group):
    """Imports a command on demand; lists commands without importing them."""

    others = MEANT

    def invoke(self, ctx: click.Context) -> object:
        with outcome.interruptible():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"scopekeeper.cli.{cmd_name}")
        command: click.Command = module.command
        if COMPLETE in os.environ:
            from scopekeeper.cli.completion import add_completion

            add_completion(command)
        if cmd_name in _TIDY_UP:
            signals.unwind_by_interrupt()
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, COMMANDS))
        for title, commands in GROUPS.items():
            with formatter.section(title):
                # all groups have their second column at the same place
                formatter.write_dl([(name.ljust(width), text) for name, text in commands.items()])


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "scopekeeper run -s demo -- sleep 60 &",
        "scopekeeper ls --members",
        "scopekeeper stop -s demo",
        "scopekeeper why demo",
        "scopekeeper COMMAND --help",
    ),
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def group() -> None:
    """Keep MCP servers and PTY runs in scopes named after their session and lane."""


def main() -> None:
    """Run one command and exit; an error is one line on stderr."""
    if COMPLETE in os.environ:
        from click.shell_completion import add_completion_class

        from scopekeeper.cli.bash import Bash

        add_completion_class(Bash)
        group.main(prog_name="scopekeeper", complete_var=COMPLETE)
    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    if command == "run":  # its command inherits the descriptors, closed ones too
        sys.exit(_call(usage_status=FAILED, failed=FAILED))
    acts = command in _ACTING and not _SHOWING.get(command, set()).intersection(sys.argv)
    out = output.prepare(forgiving=acts)
    try:
        status = output.finish(out, _call())
    except KeyboardInterrupt:  # of a command that cleans up after one, and was done with that
        signals.die()
    sys.exit(status)


def _call(usage_status: int = 2, failed: int | None = None) -> int:
    """Run the command that the arguments name, and return its exit status.

    failed overrides the exit status of every error of scopekeeper.
    """
    return outcome.of(lambda: _with_click(usage_status), failed)


def _with_click(usage_status: int) -> object:
    try:
        return group.main(prog_name="scopekeeper", standalone_mode=False)
    except click.UsageError as error:
        outcome.print_error(option_errors.text_of(error))
        return usage_status
    except click.ClickException as error:
        outcome.print_error(error.format_message())
        return usage_status
    except click.Abort:
        return 130
