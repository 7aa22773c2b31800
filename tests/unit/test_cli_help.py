"""Help is text of several lines, also where it is shown since nothing was asked for."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from scopekeeper.cli.main import group

ROOT = Path(__file__).parents[2]


def commands(command, *words):
    """Yield the words of every command, and whether it has commands below it."""
    below = isinstance(command, click.Group)
    yield words, below
    if below:
        context = click.Context(command)
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
    assert "Commands:" in lines
    assert "\\n" not in done.stdout


@pytest.mark.parametrize("words", [words for words, _ in ALL], ids=" ".join)
def test_every_help_is_lines_of_text(words):
    done = CliRunner().invoke(group, [*words, "--help"], prog_name="scopekeeper")
    assert done.exit_code == 0
    assert len(done.stdout.splitlines()) > 3
    assert "\\n" not in done.stdout
