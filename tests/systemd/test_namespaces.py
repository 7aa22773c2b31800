"""A gateway in a container of its own: its pids mean nothing here, so they prove nothing."""

import os
import shlex

import pytest

from tests.machine import (
    FOREVER,
    Scopekeeper,
    eventually,
    is_alive,
    processes,
    record_of,
    scope_directories,
    text_of,
)

from .manager import systemd_run_argv

pytestmark = pytest.mark.systemd
CONTAINER = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "--")


def test_what_another_pid_namespace_owns_is_never_ended(keeper: Scopekeeper, session: str) -> None:
    launch = shlex.join(keeper.argv("-s", session, "-n", "theirs", "--", *FOREVER))
    keeper.popen(systemd_run_argv("--scope", "--", *CONTAINER, "sh", "-c", f"{launch} & wait"))
    scope = eventually(scope_directories)[0]
    (pid,) = eventually(lambda: processes(scope))
    eventually(lambda: text_of(f"/proc/{pid}/comm") == "sleep\n")
    (leaf,) = (text_of(f"/proc/{pid}/cgroup").rpartition("/")[2].strip(),)
    assert record_of(f"{scope}/{leaf}")["OWNER_PID"] == "1", "as it is called in there"
    done = keeper.call("reconcile")
    assert done.returncode == 0, done.stderr
    assert is_alive(pid)
    (line,) = [line for line in done.stdout.splitlines() if session in line]
    assert "another container" in line
    assert keeper.call("stop", "-s", session).returncode == 0
    assert is_alive(pid), "a session of that name here is another session"
    assert keeper.call("stop", os.path.basename(scope)).returncode == 0
    assert not is_alive(pid)


def test_what_was_made_in_a_container_is_labelled_there(keeper: Scopekeeper, session: str) -> None:
    launch = shlex.join(keeper.argv("-s", session, "-n", "theirs", "--", *FOREVER))
    keeper.popen(systemd_run_argv("--scope", "--", *CONTAINER, "sh", "-c", f"{launch} & wait"))
    scope = eventually(scope_directories)[0]
    eventually(lambda: processes(scope) and record_of(scope))
    done = keeper.call("label", os.path.basename(scope), "--as", "codex:1")
    assert done.returncode == 1
    assert "skipped: it was made in another container; label it there" in done.stdout
    assert "LABEL" not in record_of(scope)
