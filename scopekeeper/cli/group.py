"""A command with subcommands."""

import click


class Group(click.Group):
    """Prints its help if no subcommand is given.

    click 8.1 does so by itself; click 8.2 raises the help text as a usage error.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments."""
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help())
            ctx.exit()
        return super().parse_args(ctx, args)
