"""An option that takes one value is refused if it is given twice: no value is dropped silently."""

import click
import pytest
from click.testing import CliRunner

from scopekeeper.cli.main import group
from scopekeeper.launch.arguments import parse


def options(command, *words):
    """Yield the words of each command with each of its options that takes one value."""
    if isinstance(command, click.Group):
        context = click.Context(command, **group.context_settings)
        for name in command.list_commands(context):
            yield from options(command.get_command(context, name), *words, name)
        return
    for each in command.params:
        if isinstance(each, click.Option) and not (each.is_flag or each.count or each.multiple):
            yield words, each


ONE_VALUE = list(options(group))


def value(option):
    return option.type.choices[0] if isinstance(option.type, click.Choice) else "1"


@pytest.mark.parametrize(
    ("words", "option"), ONE_VALUE, ids=[f"{' '.join(w)} {o.opts[-1]}" for w, o in ONE_VALUE]
)
def test_an_option_with_one_value_is_refused_if_it_is_given_twice(words, option):
    given = [*words, option.opts[0], value(option), f"{option.opts[-1]}={value(option)}"]
    done = CliRunner().invoke(group, given, prog_name="scopekeeper")
    assert isinstance(done.exception, SystemExit)
    assert done.exit_code == 2
    assert f"{option.opts[-1]} is given twice and takes one value" in done.output


def test_what_repeats_or_comes_after_the_command_is_not_refused():
    for words in (
        ["ls", "--state", "running", "--state", "orphan", "--help"],
        ["stop", "-s", "a", "-s", "b", "--help"],
    ):
        assert CliRunner().invoke(group, words).exit_code == 0
    assert parse(["-s", "a", "--own", "x", "--own", "y", "--", "sh", "-s", "-s"]) == (
        {"session": "a", "own": "x\0y"}, ["sh", "-s", "-s"],
    )  # fmt: skip


@pytest.mark.parametrize("again", [("-s", "b"), ("--session=b",), ("--session", "a")])
def test_a_launch_with_two_sessions_is_not_parsed_without_click(again):
    assert parse(["-s", "a", *again, "--", "true"]) is None


def test_the_refusal_names_how_to_name_several():
    for words in (["stop", "-s", "a", "-s", "b"], ["ls", "-n", "a", "--name", "b"]):
        said = CliRunner().invoke(group, words, prog_name="scopekeeper").output
        assert f"give words: scopekeeper {words[0]} ONE OTHER" in said
    said = CliRunner().invoke(group, ["stop", "-l", "a", "-l", "b"]).output
    assert "A B" not in said
