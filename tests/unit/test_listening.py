"""What the kernel says of sockets that wait, and who holds them."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from scopekeeper.cli import inside, ports, ps
from scopekeeper.cli.show import safe_json
from scopekeeper.kernel import listening
from scopekeeper.kernel.listening import Listening
from scopekeeper.kernel.proc import cgroup_of, mount_point
from scopekeeper.kernel.processes import look
from scopekeeper.safe_text import safe
from scopekeeper.scope.model import Member, Scope
from scopekeeper.scope.selection import Selected


def known():
    return {each.inode: each for each in listening.read()}


def inode(each):
    return os.fstat(each.fileno()).st_ino


@pytest.mark.parametrize(
    ("family", "kind", "host", "shown"),
    [
        (socket.AF_INET, socket.SOCK_STREAM, "127.0.0.1", "127.0.0.1:{}"),
        (socket.AF_INET6, socket.SOCK_STREAM, "::1", "[::1]:{}"),
        (socket.AF_INET, socket.SOCK_DGRAM, "127.0.0.1", "127.0.0.1:{}"),
        (socket.AF_INET6, socket.SOCK_DGRAM, "::", "[::]:{}"),
    ],
)
def test_a_port_is_known_from_the_moment_on_that_somebody_can_reach_it(family, kind, host, shown):
    with socket.socket(family, kind) as each:
        assert inode(each) not in known()
        try:
            each.bind((host, 0))
        except OSError:
            pytest.skip("no IPv6 here")
        if kind == socket.SOCK_STREAM:
            each.listen()
        port = each.getsockname()[1]
        found = known()[inode(each)]
        assert (found.port, found.shown) == (port, shown.format(port))
        assert found.protocol == ("tcp" if kind == socket.SOCK_STREAM else "udp")
        assert inode(each) in listening.held_by(os.getpid())
    assert port not in {x.port for x in listening.read()}


def test_a_unix_socket_is_known_by_its_path_or_its_abstract_name(tmp_path):
    path, abstract = str(tmp_path / "so\x1bcket"), f"\0scopekeeper-test-{os.getpid()}"
    for name, shown in ((path, path), (abstract, f"@{abstract[1:]}")):
        with socket.socket(socket.AF_UNIX) as each:
            each.bind(name)
            assert inode(each) not in known(), "nobody can connect yet"
            each.listen()
            found = known()[inode(each)]
            assert (found.protocol, found.shown, found.port) == ("unix", shown, None)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as each:
        each.bind(f"{tmp_path}/datagrams")
        assert known()[inode(each)].shown == f"{tmp_path}/datagrams"
    one, other = socket.socketpair()
    assert not {inode(one), inode(other)} & known().keys(), "a connected pair has no name"
    one.close()
    other.close()


def test_a_name_that_is_no_text_is_shown_and_harms_nothing(tmp_path):
    for name in (b"\0\xff\x1b[31m", b"\0a\0b", os.fsencode(tmp_path) + b"/\xfe\n"):
        with socket.socket(socket.AF_UNIX) as each:
            each.bind(name)
            each.listen()
            shown = safe(known()[inode(each)].shown)
            assert shown.isprintable()
            json.dumps(safe_json(shown)).encode("ascii")


PROGRAM = """
import os, socket
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
if not os.fork():
    input()
else:
    input()
    os.wait()
"""


def test_a_member_is_named_by_its_port_and_a_socket_that_two_hold_is_one_row():
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as server:  # fmt: skip
        port = int(server.stdout.readline())
        child = int(Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text() or 0)
        while not child:
            child = int(Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text() or 0)
        cgroup = cgroup_of(server.pid)
        member = Member("web", "01234567", mount_point() + cgroup, cgroup,
                        pids=(server.pid, child))  # fmt: skip
        scope = Scope("scopekeeper-s-main.scope", "/x", "/x", 0, "s", "main", members=(member,))
        (part,) = inside.parts([Selected(scope)], lambda: listening.read(unix=False))
        (row,) = (row for row in ports._rows(part) if row.of.pids)
        assert row.of.socket.port == port
        assert row.of.pids == (server.pid, child)
        assert row.of.document["session"] == "s"
        assert str(port) in [x.text for x in ps._cells(part, part.processes[0], "")]
        (one, other) = ps._rows(part, is_plain=False)
        assert other.cells[[x.name for x in ps.COLUMNS].index("command")].text.startswith("└─ ")
        assert one.of.document["listens"] == [
            {"protocol": "tcp", "address": "127.0.0.1", "port": port}
        ]
        sentence = ports._whose(port, [row.of.socket])
        assert f"pid {server.pid} (" in sentence or f"pid {child} (" in sentence
        server.communicate("\n\n")
    assert ports._whose(port, []) == f"nothing listens on port {port} in this network namespace"


def test_a_socket_that_a_member_made_and_does_not_hold_is_the_members(tmp_path):
    directory = str(tmp_path)
    member = Member("web", "01234567", directory, "/x")
    scope = Scope("scopekeeper-s-main.scope", "/x", "/x", 0, "s", "main", members=(member,))
    made = Listening(5, "tcp", "127.0.0.1", 80, os.stat(directory).st_ino)
    other = Listening(6, "tcp", "127.0.0.1", 81)
    (part,) = inside.parts([Selected(scope)], lambda: [made, other])
    (row,) = ports._rows(part)
    assert (row.of.socket, row.of.pids, row.of.command) == (made, (), "")


def test_the_commands_of_a_machine_do_not_end_the_look():
    for each in look(range(1, 3000), "/"):
        assert each.command
        assert each.state
