"""The keeper's socket: whatever one client sends, or does not, harms only its own connection."""

import contextlib
import json
import os
import pathlib
import random
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from scopekeeper.exec import protocol, run
from scopekeeper.exec.protocol import Frames
from scopekeeper.keeper.exec.server import SILENT
from tests.unit.standin import a_run

SERVER = """
import asyncio, os, sys
from scopekeeper.keeper.history_thread import HistoryThread
from scopekeeper.keeper.jobs import Jobs
from scopekeeper.keeper.processes import Processes
from scopekeeper.keeper.exec import conversation, server
from scopekeeper.keeper.exec.runs import Runs
from scopekeeper.systemd.fdstore import DescriptorStore
server.address = lambda: sys.argv[1]
conversation.PATIENCE = float(sys.argv[2])
server.CLIENTS = int(sys.argv[3])

async def main():
    loop = asyncio.get_running_loop()
    nothing = lambda *_: None
    jobs = Jobs(loop, nothing)
    history = HistoryThread(loop)
    runs = Runs(Processes(loop), DescriptorStore(0), nothing, nothing, nothing, jobs, history)
    serving = server.RunServer(runs)
    print("listens", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
SECONDS = 60.0


def eventually(condition: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


class Server:
    """The keeper's side of runs, as a process of its own; seen from outside."""

    def __init__(self, folder: pathlib.Path, patience: float, clients: int = 1024) -> None:
        self._path = str(folder / "keeper")
        self.state = folder / "state"
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER, self._path, str(patience), str(clients)],
            env={**os.environ, "SCOPEKEEPER_STATE": str(self.state)},
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout.readline() == b"listens\n"
        self.pid = self._process.pid
        self.before = self.descriptors

    def close(self) -> None:
        assert self._process.poll() is None
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    @property
    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    @property
    def runs(self) -> list[str]:
        return self.client().ask(do="list")["runs"]

    def recorded(self, run_id: str) -> dict[str, Any]:
        return json.loads((self.state / "runs" / run_id / "run.json").read_text())

    def client(self) -> "Client":
        return Client(self._path)


class Client:
    """A connection that says anything; closed when it is forgotten."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(SECONDS)
        self.socket.connect(path)
        self._frames, self._waiting = Frames(), []

    def ask(self, *descriptors: int, **request: object) -> dict[str, Any]:
        return self.say(protocol.message(**request), *descriptors)

    def say(self, data: bytes, *descriptors: int) -> dict[str, Any]:
        with contextlib.suppress(BrokenPipeError):  # it may have hung up already, and said why
            socket.send_fds(self.socket, [data], descriptors)
        return self.hear()

    def hear(self) -> dict[str, Any]:
        """Return the next message; empty where it was hung up on."""
        while not self._waiting:
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            if not data:
                return {}
            self._waiting += [protocol.parse(text) for _, text in self._frames.feed(data)]
        return self._waiting.pop(0)


@pytest.fixture
def server(tmp_path: pathlib.Path) -> Iterator[Server]:
    made = Server(tmp_path, patience=SECONDS)
    yield made
    made.close()


@pytest.fixture
def master() -> Iterator[int]:
    ours, theirs = os.openpty()
    yield ours
    os.close(ours)
    os.close(theirs)


def begun(**values: object) -> dict[str, Any]:
    """Return a run as a client describes it."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return run.plain(a_run(boot_id=file.read().strip())) | values


WRONG = {
    "no run": {"run": None}, "id": {"run": begun(id="../../etc")}, "argv": {"run": begun(argv=3)},
    "columns": {"run": begun(cols=70_000)}, "no rows": {"run": begun(rows=0)},
    "log": {"run": begun(log_max=-1)}, "pipes": {"run": begun(tty=False)},
    "lifetime": {"run": begun(lifetime="for ever")}, "session": {"run": begun(session="\0")},
}  # fmt: skip


def test_a_malformed_hold_leaves_no_descriptor(server: Server, master: int) -> None:
    for _ in range(3):
        for wrong in WRONG.values():
            client = server.client()
            assert "problem" in client.ask(master, master, do="hold", **wrong)
            assert client.hear() == {}, "it is hung up on"
    eventually(lambda: server.descriptors == server.before)
    assert not list(server.state.glob("runs/*"))


def test_descriptors_that_belong_to_nothing_are_closed(server: Server, master: int) -> None:
    client = server.client()
    piece = protocol.message(do="list", more="x" * 100)
    for at in range(8):
        with contextlib.suppress(BrokenPipeError):
            socket.send_fds(client.socket, [piece[at : at + 1]], [master] * 4)
    assert "too many descriptors" in client.hear()["problem"]
    client = server.client()
    assert client.ask(master, master, do="list") == {"ok": True, "runs": []}
    eventually(lambda: server.descriptors == server.before + 1)


def test_a_run_that_cannot_be_held_for_want_of_descriptors_leaves_nothing(
    server: Server, master: int
) -> None:
    assert server.runs == []
    eventually(lambda: server.descriptors == server.before)
    before = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir(f"/proc/{server.pid}/fd")))
    for spare in (2, 3, 4):  # the connection and the terminal; half a pipe, a pipe
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (highest + 1 + spare, before[1]))
        answer = server.client().ask(master, do="hold", run=begun())
        assert "problem" in answer, spare
        eventually(lambda: server.descriptors == server.before)
        assert not list(server.state.glob("runs/*")), spare
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, before)
    client = server.client()
    assert client.ask(master, do="hold", run=begun()) == {"ok": True}
    assert server.runs == ["1a2b3c4d"]


def test_no_descriptor_for_a_client_keeps_others_waiting_only(server: Server) -> None:
    before = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir(f"/proc/{server.pid}/fd")))
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (highest + 1, before[1]))
    client = server.client()
    used = cpu_of(server.pid)
    time.sleep(0.3)
    assert cpu_of(server.pid) - used < 0.2, "it does not try without end"
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, before)
    assert client.ask(do="list") == {"ok": True, "runs": []}


def cpu_of(pid: int) -> float:
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_client_that_leaves_before_it_started_anything_takes_the_run_along(
    server: Server, master: int
) -> None:
    client = server.client()
    assert client.ask(master, do="hold", run=begun()) == {"ok": True}
    assert server.runs == ["1a2b3c4d"]
    client.socket.close()
    eventually(lambda: server.runs == [])
    eventually(lambda: server.descriptors == server.before)
    eventually(lambda: not list(server.state.glob("runs/*")))


def test_a_client_that_gives_up_on_a_stopped_keeper_leaves_no_run(
    server: Server, master: int
) -> None:
    """The keeper reads the request later, when the process that came with it has ended."""
    client = server.client()
    assert client.ask(master, do="hold", run=begun()) == {"ok": True}
    child = subprocess.Popen(["true"])
    pidfd = os.pidfd_open(child.pid)
    child.wait()
    about = {"run": "1a2b3c4d", "pid": child.pid, "start": 1}
    assert "has ended already" in client.ask(pidfd, do="started", **about)["problem"]
    os.close(pidfd)
    client.socket.close()
    eventually(lambda: server.runs == [])
    eventually(lambda: not list(server.state.glob("runs/*")))


def test_the_process_of_a_run_has_to_be_the_one_of_its_descriptor(
    server: Server, master: int
) -> None:
    client = server.client()
    assert client.ask(master, do="hold", run=begun()) == {"ok": True}
    pidfd = os.pidfd_open(os.getpid())
    for wrong in (master, pidfd):
        about = {"run": "1a2b3c4d", "pid": os.getppid(), "start": 1}
        assert "no pidfd" in server.client().ask(wrong, do="started", **about)["problem"]
    about["pid"] = os.getpid()
    assert client.ask(pidfd, do="started", **about) == {"ok": True}
    assert server.recorded("1a2b3c4d")["pid"] == os.getpid()
    assert "problem" in server.client().ask(pidfd, do="started", **about)
    os.close(pidfd)


REFUSED = {
    "columns": {"cols": 70_000, "rows": 24}, "from": {"from": 1 << 70}, "text": {"cols": "wide"},
    "flag": {"read_only": "yes"}, "id": {"run": "nothing"}, "none": {"run": "00000000"},
}  # fmt: skip


def test_a_size_or_position_out_of_range_is_answered(server: Server, master: int) -> None:
    holding = server.client()
    assert holding.ask(master, do="hold", run=begun()) == {"ok": True}
    attach = {"do": "attach", "run": "1a2b3c4d", "from": 0, "cols": 80, "rows": 24}
    for wrong in REFUSED.values():
        client = server.client()
        assert "problem" in client.ask(**attach | wrong)
        assert client.hear() == {}
    for size in ([70_000, 20], [-1, 2], ["80", 24], [80], 80, [1 << 70, 1]):
        client = server.client()
        assert client.ask(**attach)["ok"]
        assert "problem" in client.ask(resize=size)
        assert client.hear() == {}
    client = server.client()
    assert client.ask(**attach)["ok"]
    client.socket.sendall(protocol.message(resize=[0xFFFF, 0xFFFF]))
    eventually(lambda: os.get_terminal_size(master) == (0xFFFF, 0xFFFF))


@pytest.mark.parametrize(
    "data",
    [
        protocol.frame(protocol.JSON, b"[" * 100_000),
        protocol.frame(protocol.JSON, b'{"do":{"do":' * 5000 + b"1" + b"}}" * 5000),
        protocol.frame(protocol.JSON, b'{"do":"send","run":"1a2b3c4d","seconds":1e999}'),
        protocol.frame(protocol.JSON, b"9" * 6000),
        protocol.frame(protocol.DATA, b"first"),
        protocol.message(do="list")[:4] + b"\x7f" + protocol.message(do="list")[5:],
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=["deep", "objects", "infinite", "digits", "no request", "long frame", "other protocol"],
)
def test_what_is_no_request_is_answered_and_hung_up_on(server: Server, data: bytes) -> None:
    client = server.client()
    answer = client.say(data)
    assert "does not understand" in answer["problem"]
    assert "restart" not in answer["hint"]
    assert client.hear() == {}
    assert server.runs == []


def test_bytes_at_random_harm_no_other_client(server: Server) -> None:
    chance = random.Random(4)
    other = server.client()
    whole = protocol.message(do="wait", run="1a2b3c4d") + protocol.message(do="list")
    for _ in range(100):
        client = server.client()
        data = bytearray(whole)
        for _ in range(3):
            data[chance.randrange(len(data))] = chance.randrange(256)
        with contextlib.suppress(BrokenPipeError):
            client.socket.sendall(data[: chance.randrange(len(data) + 1)])
            client.socket.shutdown(socket.SHUT_WR)
        while client.hear():
            pass
    assert other.ask(do="list") == {"ok": True, "runs": []}
    eventually(lambda: server.descriptors == server.before + 1)


def test_clients_that_say_nothing_are_bounded_in_number_and_memory(server: Server) -> None:
    half = protocol.frame(protocol.JSON, bytes(65_000))[:-1]
    clients, memory = [], []
    for _ in range(4):
        for _ in range(4 * SILENT):
            clients.append(server.client())
            with contextlib.suppress(BrokenPipeError):
                clients[-1].socket.sendall(half)
        assert server.runs == [], "who asks is served"
        eventually(lambda: server.descriptors <= server.before + SILENT)
        memory.append(memory_of(server.pid))
    assert memory[-1] - memory[0] < 4 * SILENT * len(half), "of those that came in first"
    assert clients[0].hear() == {}, "it waited longest"


def test_more_clients_than_it_serves_are_refused_with_a_reason(tmp_path: pathlib.Path) -> None:
    server = Server(tmp_path, SECONDS, clients=5)
    clients = [server.client() for _ in range(5)]
    for client in clients:
        assert client.ask(do="list")["ok"]
    for _ in range(3):
        late = server.client()
        assert "serves 5 clients already" in late.ask(do="list")["problem"]
        assert late.hear() == {}
    clients.pop().socket.close()
    eventually(lambda: "ok" in server.client().ask(do="list"))
    server.close()


def memory_of(pid: int) -> int:
    pages = pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGESIZE")


def test_a_client_that_says_nothing_is_hung_up_on_in_time(tmp_path: pathlib.Path) -> None:
    server = Server(tmp_path, patience=0.5)
    silent, halfway = server.client(), server.client()
    with contextlib.suppress(BrokenPipeError):
        halfway.socket.sendall(protocol.message(do="list")[:-1])
    asked = server.client()
    while not asked.ask(do="list"):  # this process may have been kept waiting for too long
        asked = server.client()
    assert silent.hear() == {}
    assert halfway.hear() == {}
    time.sleep(0.6)
    assert asked.ask(do="list")["ok"], "it has said something"
    server.close()


def test_a_client_that_asks_and_does_not_listen_is_hung_up_on(server: Server) -> None:
    client = server.client()
    client.socket.settimeout(None)
    asking = protocol.message(do="list") * 2000
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        client.socket.sendall(asking * 100)
    assert server.runs == []
