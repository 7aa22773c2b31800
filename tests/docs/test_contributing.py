"""CONTRIBUTING.md: its commands are there and do what it says, and its picture is the code's."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, blocks
from tests.lab.cli import parser
from tests.unit.test_layers import FLOORS

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
COMMANDS = [shlex.split(line, comments=True) for line in "".join(blocks(TEXT, "sh")).splitlines()]


def commands(*start):
    """Return what follows these words in the commands that start with them; never nothing."""
    found = [words[len(start) :] for words in COMMANDS if words[: len(start)] == list(start)]
    assert found
    return found


def pytest_of(*arguments):
    """Run pytest with the arguments of a command."""
    plain = ("-p", "no:cacheprovider", "-q")
    return subprocess.run(
        [sys.executable, "-m", "pytest", *plain, *arguments],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip


def test_every_command_is_tested_here():
    kinds = ["make"], [".venv/bin/python", "-m", "pytest"], ["sudo", ".venv/bin/python", "-m"]
    for words in COMMANDS:
        assert any(words[: len(kind)] == kind for kind in kinds), words


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_the_makefile_has_its_targets():
    named = [shlex.split(text) for text in re.findall(r"`make ([^`]+)`", TEXT)]
    for targets in commands("make") + named:
        done = subprocess.run(
            ["make", "-n", f"PYTHON={sys.executable}", *targets],
            cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, (targets, done.stderr)
        assert done.stdout


def test_one_test_is_run_by_its_command():
    for arguments in commands(".venv/bin/python", "-m", "pytest"):
        done = pytest_of(*arguments)
        assert done.returncode == 0, done.stdout


def test_the_lab_is_called_by_its_command():
    for arguments in commands("sudo", ".venv/bin/python", "-m", "tests.lab"):
        at = arguments.index("--")
        options = parser().parse_args(arguments[:at])
        assert (options.command, options.kind, options.user) == ("test", "nspawn", True)
        done = pytest_of("--collect-only", *arguments[at + 1 :])
        assert done.returncode == 0, done.stdout


def test_its_picture_has_the_rooms_from_the_ground_up():
    (picture,) = blocks(TEXT, "")
    floors = [line.partition("|")[0] for line in picture.splitlines()]
    assert [room for floor in reversed(floors) for room in floor.split()] == list(FLOORS)


def test_the_files_that_it_names_are_there():
    folders = [ROOT, ROOT / "scopekeeper"]
    for name in re.findall(r"`([\w.]+/[\w/.]*)`", TEXT):
        assert any((folder / name).exists() for folder in folders) or "NAME" in name, name


def test_the_readme_and_the_design_notes_lead_to_it():
    for page in (ROOT / "README.md", ROOT / "docs" / "design.md"):
        targets = re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
        assert ROOT / "CONTRIBUTING.md" in [(page.parent / Path(to)).resolve() for to in targets]
