"""What can be said of vagrant/ without a machine: make test-vagrant runs it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VAGRANT = ROOT / "vagrant"
SCRIPTS = [
    *(VAGRANT / name for name in ("provision", "suites", "test", "packages")),
    *(ROOT / "tests/vagrant" / name for name in ("session", "box/prepare")),
    ROOT / ".ci/run",
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_one(script):
    first = script.read_text().splitlines()[0]
    shell = "sh" if first == "#!/bin/sh" else "bash"
    checked = subprocess.run([shell, "-n", script], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing_in_a_script(script):
    if not shutil.which("shellcheck"):
        pytest.skip("there is no shellcheck")
    told = subprocess.run(["shellcheck", "-x", script], cwd=ROOT, capture_output=True, text=True)
    assert (told.returncode, told.stdout) == (0, "")


def test_the_vagrantfile_is_one():
    if not shutil.which("ruby"):
        pytest.skip("there is no ruby")
    checked = subprocess.run(
        ["ruby", "-c", VAGRANT / "Vagrantfile"], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr


def test_it_names_the_suites_that_there_are():
    named = re.findall(r"tests/\w+/\w+\.py", (VAGRANT / "suites").read_text())
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_what_asks_for_no_reboot_is_what_github_runs():
    workflow = (ROOT / ".github/workflows/test.yml").read_text()
    assert "vagrant/provision pip" in workflow
    assert "vagrant/suites --steady" in workflow
    assert "--steady" in (VAGRANT / "suites").read_text()


def test_the_users_of_the_suites_are_those_of_the_lab():
    from tests.lab.payload import UIDS

    (line,) = [
        each for each in (VAGRANT / "provision").read_text().splitlines() if "users=" in each
    ]
    assert set(UIDS) - {"root"} <= set(line.split('"')[1].split())
