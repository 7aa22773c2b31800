"""``install --gateway`` says what of a gateway is contained, and that is so."""

import os
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
    assert f"does not contain {name} itself" in done.stderr
    assert "Now: 0 members in scopes, 1 other process in none." in done.stderr
    assert "is contained" not in said
    assert "its scopes end when it stops, and leftovers end before it starts: systemctl" in said

    server = f"{PROGRAM} run -s {session} -- sleep 6663 &"
    assert gateway(units, name, server=server) != main
    eventually(lambda: session in keeper.call("ls").stdout)
    done = call("install", "--gateway", name, "--dry-run")
    assert "Now: 1 member in scopes, 1 other process in none." in done.stderr
    assert keeper.call("stop", "-s", session).returncode == 0


def test_the_line_that_it_gives_contains_all_that_the_gateway_starts(
    call: Call, units: Units, session: str, keeper: Scopekeeper
) -> None:
    """Also with the KillMode= that leaves processes, which is why they were seen to leak."""
    name = f"gateway-{session[-8:]}.service"
    gateway(units, name, more="KillMode=process")
    done = call("install", "--gateway", name)
    succeeds(done)
    assert "set Delegate=yes and ExecStart=" in done.stderr
    line = done.stderr.partition("Delegate=yes and ExecStart=")[2].partition("COMMAND in its unit")[
        0
    ]
    more = "KillMode=process\nDelegate=yes\nRestart=always\nRestartSec=0"
    main = gateway(units, name, start=line, more=more)
    done = call("install", "--gateway", name, "--dry-run")
    succeeds(done)
    assert "does not contain" not in done.stderr
    (server,) = children_of(main)
    assert "/scopekeeper-" in cgroup_of(server), "it is in a scope"
    os.kill(main, signal.SIGKILL)
    eventually(lambda: not is_alive(server))
    eventually(lambda: main_pid(name) not in (0, main))
    assert keeper.call("ls").returncode == 0
