"""A plugin for the host's pytest: ``--ansible`` adds a machine on which Ansible plays the role.

    python -m pytest -p tests.ansible.plugin -p tests.lab.plugin --ansible

What is missing comes from Debian's archive first. Where that cannot be reached, the machine is a
test that is skipped and says why; it is never one that passed.
"""

import sys

import pytest

from tests.docs.blocks import ROOT
from tests.e2e.packages import UnreachableError
from tests.e2e.plugin import NotThere
from tests.lab.host import LabError

from . import packages

GUEST = "/opt/ansible"
TESTS = "tests/ansible"


def note(message: str) -> None:
    """Report something at once, however pytest is called."""
    print(f"ansible: {message}", file=sys.stderr, flush=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("ansible", "a real Ansible")
    group.addoption("--ansible", action="store_true", help="have one play the role of examples/")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Ask the lab for the machine, before it reads what it was asked for."""
    if config.getoption("collectonly") or not config.getoption("ansible"):
        return
    try:
        folder = packages.have(note)
    except UnreachableError as error:
        note(f"NOT RUN: {error}")
        config.pluginmanager.register(NotThere("lab[ansible]", str(error)), "no ansible")
    except LabError as error:
        raise pytest.UsageError(str(error)) from None
    else:
        binds = f"{ROOT}/dist:/srv/deb:{folder}:{GUEST}"
        config.option.lab_specs.append(f"ansible@trixie-deb:nspawn:root:{binds}=-m deb {TESTS}")
