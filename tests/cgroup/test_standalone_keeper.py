"""The keeper without systemd: what it has, where it is, how it ends."""

import os
import re
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    PROGRAM,
    ROOT,
    cgroup_of,
    directory_of,
    environment_of,
    eventually,
    is_alive,
    leaves,
    processes,
    text_of,
)
from tests.terminal import Terminal

from .container import Container

pytestmark = pytest.mark.systemd  # the lab's machine has the cgroup to delegate


def stat_of(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third on."""
    return text_of(f"/proc/{pid}/stat").rpartition(")")[2].split()


def test_doctor_says_what_is_weaker(container: Container) -> None:
    told = container.call("doctor").stdout
    assert "nothing keeps the terminals of runs" in told
    assert "new scopes go to cgroup" in told
