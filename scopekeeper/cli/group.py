"""A command with subcommands."""

import click

from scopekeeper.cli import given_once, outcome, unknown_command
from scopekeeper.errors import UsageError


class Group(click.Group):
    """Prints its help if no subcommand is given, and suggests one for a name that is unknown.

    Refuses an option that is given twice but takes one value.

    click 8.1 prints the help by itself; click 8.2 raises the help text as a usage error. Only newer
    versions of click suggest a command.
    """

    others: dict[str, str] = {}  # noqa: RUF012  click's classes are not dataclasses
    """Names that are no subcommands, each with what to use instead."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments."""
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help())
            ctx.exit()
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """Run the subcommand; an error in its call leads to its help."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            if error.ctx is None:  # click leaves it out if an option lacks its argument
                error.ctx = self._context_below(ctx)
            raise
        except UsageError as error:
            outcome.point_to_help(error, f"{ctx.command_path} {ctx.invoked_subcommand}")
            raise

    def _context_below(self, ctx: click.Context) -> click.Context:
        name = ctx.invoked_subcommand
        command = self.get_command(ctx, name) if name is not None else None
        return ctx if command is None else click.Context(command, ctx, name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the subcommand that the arguments name; raises UsageError with a suggestion."""
        known, name = self.list_commands(ctx), args[0]
        if name not in known and not name.startswith("-") and not ctx.resilient_parsing:
            raise click.UsageError(unknown_command.error_of(name, known, self.others), ctx)
        found, command, rest = super().resolve_command(ctx, args)
        if command is not None and not ctx.resilient_parsing:
            given_once.check(command, found, rest, ctx)
        return found, command, rest
