"""Whoever calls, from wherever: an MCP client's bare environment, a scope unit."""

import os
import pwd

import pytest

from tests.machine import FOREVER, Scopekeeper, directory_of, is_alive, wait_for_command

from .manager import SLICE, systemd_run_argv

pytestmark = pytest.mark.systemd


def bare(user: str) -> dict[str, str]:
    """Return all that an MCP client passes on to a server."""
    entry = pwd.getpwnam(user)
    path = os.environ["PATH"]
    return {
        "HOME": entry.pw_dir, "LOGNAME": user, "PATH": path, "SHELL": "/bin/sh", "TERM": "xterm",
        "USER": user,
    }  # fmt: skip


def test_a_bare_environment_is_enough(keeper: Scopekeeper, session: str) -> None:
    user = pwd.getpwuid(os.getuid()).pw_name
    one = keeper.member("-s", session, "--", *FOREVER, env=bare(user))
    two = keeper.member("-s", session, "--", *FOREVER, env=bare(user))
    assert os.path.dirname(os.path.dirname(directory_of(one.pid))) == SLICE
    assert os.path.dirname(directory_of(two.pid)) == os.path.dirname(directory_of(one.pid))
    done = keeper.call("stop", "-s", session, env=bare(user))
    assert done.returncode == 0, done.stderr
    assert not is_alive(one.pid)


def test_a_wrong_runtime_folder_in_the_environment_misleads_nobody(
    keeper: Scopekeeper, session: str
) -> None:
    wrong = {
        **os.environ,
        "XDG_RUNTIME_DIR": "/run/user/4711",
        "DBUS_SESSION_BUS_ADDRESS": "unix:path=/nowhere",
        "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nowhere",
    }
    process = keeper.member("-s", session, "--", *FOREVER, env=wrong)
    assert directory_of(process.pid).startswith(SLICE + "/")
    assert keeper.call("stop", "-s", session, env=wrong).returncode == 0


def test_a_caller_in_a_scope_unit_creates_and_joins(keeper: Scopekeeper, session: str) -> None:
    for _ in range(2):
        process = keeper.popen(
            systemd_run_argv("--scope", "--", *keeper.argv("-s", session, "--", *FOREVER))
        )
        wait_for_command(process)
        assert directory_of(process.pid).startswith(SLICE + "/")
