"""What `make` installs on the machine that calls it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("cat", "dirname", "env", "id", "mktemp", "printf", "rm", "sh", "tail")
APT = """#!/bin/sh
[ "$1" = -q ] && shift
echo "$@" >> "{log}"
"""
SUDO = """#!/bin/sh
exec "$@"
"""


@pytest.fixture
def bare(tmp_path):
    """A folder for PATH with what every Debian has, and an apt-get that writes down its calls."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        (folder / name).symlink_to(shutil.which(name))
    (folder / "python3").symlink_to(sys.executable)
    for name, text in (("apt-get", APT.format(log=tmp_path / "apt")), ("sudo", SUDO)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


def prepared(bare, *arguments, **environment):
    return subprocess.run(
        [ROOT / "tests/prepare.sh", *arguments], env={"PATH": str(bare), **environment},
        capture_output=True, text=True,
    )  # fmt: skip


def test_a_deb_takes_only_what_makes_its_chroot(bare):
    done = prepared(bare, "deb")
    assert done.returncode == 0, done.stderr
    calls = (bare.parent / "apt").read_text().splitlines()
    (asked,) = [line.partition(" install ")[2].split() for line in calls if " install " in line]
    assert {"git", "mmdebstrap"} <= set(asked) <= {"git", "mmdebstrap", "debian-archive-keyring"}
    assert "installing with apt-get: git mmdebstrap" in done.stderr


def test_it_prints_the_interpreter_to_call_and_nothing_else(bare):
    for name in ("git", "mmdebstrap"):
        (bare / name).symlink_to("/bin/true")
    found = prepared(bare, "deb")
    (path,) = found.stdout.splitlines()
    assert os.path.realpath(path) == os.path.realpath(sys.executable)
    assert prepared(bare, "deb", PYTHON="/named/python").stdout == "/named/python\n"


def test_the_builder_needs_no_other_package():
    """`make deb` calls it with the distribution's interpreter: no virtual environment."""
    done = subprocess.run(
        [sys.executable, "-IS", "-c",
         f"import sys; sys.path.insert(0, {str(ROOT)!r}); import tests.lab.cli"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_deb_prepares_a_deb_and_not_the_tests():
    done = subprocess.run(["make", "-n", "deb"], cwd=ROOT, capture_output=True, text=True)
    assert "prepare.sh deb" in done.stdout
    assert "prepare.sh test" not in done.stdout
