"""Writes docs/commands.md from what the commands declare: ``python -m tests.docs.commands``."""

import re
from collections.abc import Iterator

import click

from scopekeeper.cli.commands import GROUPS
from scopekeeper.cli.examples import examples_of
from scopekeeper.cli.main import group

from .blocks import ROOT

PAGE = ROOT / "docs" / "commands.md"
_HEAD = """\
# Commands

`scopekeeper COMMAND --help` says the same. Made by `make docs` from what the commands declare.

"""


def text() -> str:
    """Return the whole page."""
    context = click.Context(group, info_name="scopekeeper", **group.context_settings)
    leaves = list(_leaves(context))
    sections = ["".join(_section(each)) for each in leaves]
    return f"{_HEAD}{_contents(leaves)}\n" + "\n".join(sections)


def _contents(leaves: list[click.Context]) -> str:
    """Return one row for each group of commands, with links to them."""
    paths = [each.command_path for each in leaves]
    rows = ["| | |\n|---|---|\n"]
    for title, names in GROUPS.items():
        below = [path for name in names for path in paths if path.split()[1] == name]
        links = ", ".join(
            f"[{path.partition(' ')[2]}](#{path.replace(' ', '-')})" for path in below
        )
        rows.append(f"| {title} | {links} |\n")
    return "".join(rows)


def _leaves(context: click.Context) -> Iterator[click.Context]:
    command = context.command
    if not isinstance(command, click.Group):
        yield context
        return
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        assert below is not None
        yield from _leaves(click.Context(below, info_name=name, parent=context))


def _section(context: click.Context) -> Iterator[str]:
    command = context.command
    yield f"## {context.command_path}\n\n"
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f"```\n{usage}\n```\n\n"
    for paragraph in (command.help or "").split("\n\n"):
        yield _prose(paragraph) + "\n\n"
    yield "\n".join(["```", *examples_of(command), "```\n\n"])
    yield "| option | |\n|---|---|\n"
    for option in command.get_params(context):
        record = option.get_help_record(context)
        if isinstance(option, click.Option) and record and option.name != "help":
            name, told = (each.replace("|", r"\|") for each in record)
            yield f"| `{name}` | {_prose(told)} |\n"


def _prose(paragraph: str) -> str:
    return re.sub("``", "`", " ".join(paragraph.split())).replace("*", r"\*").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
