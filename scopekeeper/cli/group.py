"""A command with commands of its own."""

import click


class Group(click.Group):
    """Prints its help where none of its commands is named.

    click 8.1 does that by itself; 8.2 raises the help as the text of a usage error.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the arguments apart."""
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help())
            ctx.exit()
        return super().parse_args(ctx, args)
