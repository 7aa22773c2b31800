"""What the help of each command says, and what is suggested for a wrong word."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from scopekeeper.cli import manual
from scopekeeper.cli.commands import COMMANDS, GROUPS, MEANT
from scopekeeper.cli.examples import examples_of
from scopekeeper.cli.main import group

ROOT = Path(__file__).parents[2]


def commands(command, *words):
    """Yield the words of every command, and whether it has commands below it."""
    below = isinstance(command, click.Group)
    yield words, below
    if below:
        context = click.Context(command, **group.context_settings)
        for name in command.list_commands(context):
            yield from commands(command.get_command(context, name), *words, name)


ALL = list(commands(group))


@pytest.mark.parametrize("words", [words for words, below in ALL if below], ids=" ".join)
def test_a_group_alone_prints_its_help(words):
    done = subprocess.run(
        [sys.executable, "-m", "scopekeeper", *words], env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith(" ".join(("Usage: scopekeeper", *words)))
    titles = GROUPS if not words else ["Commands"]
    assert [line[:-1] for line in lines if line[:-1] in titles] == list(titles)
    assert "\\n" not in done.stdout


@pytest.mark.parametrize("words", [words for words, _ in ALL], ids=" ".join)
def test_every_help_is_lines_of_text(words):
    done = CliRunner().invoke(group, [*words, "--help"], prog_name="scopekeeper")
    assert done.exit_code == 0
    assert len(done.stdout.splitlines()) > 3
    assert "\\n" not in done.stdout


def command_of(words):
    """Return the context of a command, and the words that are its arguments."""
    context = click.Context(group, info_name="scopekeeper", **group.context_settings)
    words = list(words)
    while words and isinstance(context.command, click.Group):
        below = context.command.get_command(context, words[0])
        if below is None:
            break
        context = click.Context(below, info_name=words.pop(0), parent=context)
    return context, words


def test_the_list_of_commands_has_every_command_once():
    folder = ROOT / "scopekeeper" / "cli"
    files = {
        path.parent.name if path.stem == "__init__" else path.stem
        for path in (*folder.glob("*.py"), *folder.glob("*/__init__.py"))
        if re.search(r"^def command\(", path.read_text(), flags=re.MULTILINE)
    }
    assert sorted(COMMANDS) == sorted(files)
    assert sum(map(len, GROUPS.values())) == len(COMMANDS)


@pytest.mark.parametrize("words", [words for words, _ in ALL], ids=" ".join)
def test_every_help_begins_with_one_short_sentence(words):
    first = " ".join((command_of(words)[0].command.help or "").partition("\n\n")[0].split())
    assert re.fullmatch(r"[A-Z][^.]{1,95}\.", first), first


@pytest.mark.parametrize("words", [words for words, _ in ALL], ids=" ".join)
def test_every_help_ends_with_examples_that_are_valid_calls(words):
    command = command_of(words)[0].command
    shown = CliRunner().invoke(group, [*words, "--help"], prog_name="scopekeeper").output
    assert examples_of(command)
    for line in examples_of(command):
        assert f"    {line}\n" in shown, "it is cut or wrapped"
        program, *rest = shlex.split(line.removesuffix(" &"))
        assert program == "scopekeeper"
        if rest[0] == "COMMAND":
            continue
        assert tuple(rest[: len(words)]) == words
        context, arguments = command_of(rest)
        assert not isinstance(context.command, click.Group), line
        if "--help" not in arguments:
            context.command.make_context(context.info_name, arguments, parent=context.parent)


def call(*words):
    return subprocess.run(
        [sys.executable, "-m", "scopekeeper", *words], env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["list"], "ls"), (["pstree"], "ps"), (["overview"], "status"), (["init"], "setup"),
        (["kill"], "stop"), (["rm"], "stop"), (["lss"], "ls"),
        (["up"], "run"), (["kil", "x"], "stop"), (["reconcil"], "reconcile"), (["LS"], "ls"),
        (["openclaw", "instal"], "install"), (["policy", "shw"], "show"), (["help"], "--help"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_another_word_for_a_command_gets_a_suggestion(words, meant):
    done = call(*words)
    wrong = next(word for word in words if word not in COMMANDS)
    asked = " ".join(["scopekeeper", *words[: words.index(wrong)]])
    said = f"No such command {wrong!r}. Did you mean {meant!r}? See `{asked} --help`"
    assert (done.returncode, done.stderr) == (2, f"scopekeeper: {said}\n")


@pytest.mark.parametrize("words", [[], ["policy"], ["openclaw"]], ids=" ".join)
def test_a_list_of_commands_has_whole_sentences(words):
    commands = call(*words, "--help").stdout.partition("[ARGS]...")[2]
    assert "Options:" in commands
    assert "..." not in commands


def test_what_is_suggested_is_there():
    assert {name for name in MEANT.values() if not name.startswith("-")} <= set(COMMANDS)
    assert not set(MEANT) & set(COMMANDS)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["frobnicate"], "No such command 'frobnicate'; see `scopekeeper --help`"),
        (["ls", "--jsn"], "No such option '--jsn'. Did you mean '--json'? See `scopekeeper ls"),
        (["openclaw", "status", "--jsn"], "'--json'? See `scopekeeper openclaw status --help`"),
        (["ls", "--xyzzy"], "No such option '--xyzzy'; see `scopekeeper ls --help`"),
        (["history", "--limit", "x"], "see `scopekeeper history --help`"),
        (["stop", "--state", "x"], "see `scopekeeper stop --help`"),
        (["exec", "--json", "--", "true"], "see `scopekeeper exec --help`"),
    ],
)  # fmt: skip
def test_an_error_in_an_option_leads_to_the_help_of_its_command(words, error):
    done = call(*words)
    assert done.returncode == 2
    assert error in done.stderr
    assert done.stderr.count("\n") == 1


def test_every_example_is_in_the_man_page_too():
    pages = manual.pages(group, "scopekeeper", "1")
    for words, _ in ALL:
        page = pages["-".join(("scopekeeper", *words)) + ".1"]
        shown = page.partition(".SH EXAMPLES\n.nf\n")[2].partition(".fi\n")[0]
        lines = [line.replace("\\-", "-") for line in shown.splitlines()]
        assert lines == examples_of(command_of(words)[0].command), words
