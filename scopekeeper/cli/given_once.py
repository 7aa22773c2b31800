"""Refuses an option that is given twice but takes one value: click silently keeps the last one.

``stop -s A -s B`` would end B alone, and exit 0.
"""

import click

_ARGUMENTS_TOO = ("session", "run", "session_id", "name")
"""Options that select what an argument can name as well."""


def check(command: click.Command, name: str | None, args: list[str], parent: click.Context) -> None:
    """Raise UsageError if args give an option of a command twice that takes one value."""
    context = click.Context(command, parent, name, **command.context_settings)
    try:
        order = command.make_parser(context).parse_args(list(args))[2]
    except click.UsageError:
        return  # the command itself reports it
    if any(given.is_eager for given in order):
        return  # --help, whatever else is given
    seen = set()
    for given in order:
        if not isinstance(given, click.Option) or given.is_flag or given.count or given.multiple:
            continue
        if given.name in seen:
            raise click.UsageError(_refusal(command, given, context), context)
        seen.add(given.name)


def _refusal(command: click.Command, option: click.Option, context: click.Context) -> str:
    text = f"{option.opts[-1]} is given twice and takes one value"
    arguments = [each.metavar or "" for each in command.params if isinstance(each, click.Argument)]
    if option.name in _ARGUMENTS_TOO and any("|SESSION|" in each for each in arguments):
        return f"{text}. To name several, give words: {context.command_path} ONE OTHER"
    return text
