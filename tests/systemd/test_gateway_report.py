"""``install --gateway`` says what of a gateway is contained, and that is so."""

import os
import re
import signal

import pytest

from tests.machine import (
    PROGRAM,
    Scopekeeper,
    cgroup_of,
    children_of,
    eventually,
    is_alive,
)

from .manager import Units, main_pid, systemctl
from .test_install import Call, before, call, succeeds

pytestmark = pytest.mark.systemd
__all__ = ["before", "call"]

UNIT = """\
[Service]
{more}
Environment=PATH={path}
ExecStart={start}/bin/sh -c 'sleep 6661 & {server} exec sleep 6662'
"""


def gateway(units: Units, name: str, *, start: str = "", more: str = "", server: str = "") -> int:
    """Write and start a gateway with one server of its own; return its main process."""
    path = os.environ["PATH"]
    units.write(name, UNIT.format(more=more, path=path, start=start, server=server))
    succeeds(systemctl("restart", name))
    main = main_pid(name)
    eventually(lambda: len(children_of(main)) == 1 + bool(server))
    return main


def test_a_gateway_that_starts_its_servers_itself_is_not_called_contained(
    call: Call, units: Units, session: str, keeper: Scopekeeper
) -> None:
    name = f"gateway-{session[-8:]}.service"
    assert keeper
    main = gateway(units, name)
    done = call("install", "--gateway", name, "--dry-run")
    said = succeeds(done)
    assert f"{name}: 1 process is in no scope; " in done.stderr
    assert f"{name}: from its next start on, its scopes end with it (not " in said

    server = f"{PROGRAM} run -s {session} -- sleep 6663 &"
    assert gateway(units, name, server=server) != main
    eventually(lambda: session in keeper.call("ls").stdout)
    done = call("install", "--gateway", name, "--dry-run")
    assert f"{name}: 1 process is in no scope; " in done.stderr, "not that of its server"
    assert keeper.call("stop", "-s", session).returncode == 0


def test_each_warning_is_one_line_and_each_thing_is_said_once(
    call: Call, units: Units, session: str, keeper: Scopekeeper
) -> None:
    name = f"gateway-{session[-8:]}.service"
    assert keeper
    gateway(units, name, more="KillMode=process")
    for shell in ((), ("--shell",)):
        done = call("install", "--gateway", name, *shell)
        *_, then = succeeds(done).splitlines()
        assert then.startswith(f"{name}: from its next start on, ")
        begin = f"scopekeeper: warning: {name}: "
        lines = [line for line in done.stderr.splitlines() if line.startswith(begin)]
        facts = [line.removeprefix(begin).rpartition(": ")[0] for line in lines]
        assert len(facts) == 3
        assert [each for each in facts if len(each) > 80] == []


def test_the_line_that_it_gives_contains_all_that_the_gateway_starts(
    call: Call, units: Units, session: str, keeper: Scopekeeper
) -> None:
    """Also with the KillMode= that leaves processes, which is why they were seen to leak."""
    name = f"gateway-{session[-8:]}.service"
    gateway(units, name, more="KillMode=process")
    done = call("install", "--gateway", name)
    succeeds(done)
    (line,) = re.findall(r"with Delegate=yes and ExecStart=(.*)COMMAND\n", done.stderr)
    more = "KillMode=process\nDelegate=yes\nRestart=always\nRestartSec=0"
    main = gateway(units, name, start=line, more=more)
    done = call("install", "--gateway", name, "--dry-run")
    succeeds(done)
    assert name not in done.stderr, "nothing is left to mend"
    (server,) = children_of(main)
    assert "/scopekeeper-" in cgroup_of(server), "it is in a scope"
    os.kill(main, signal.SIGKILL)
    eventually(lambda: not is_alive(server))
    eventually(lambda: main_pid(name) not in (0, main))
    assert keeper.call("ls").returncode == 0
