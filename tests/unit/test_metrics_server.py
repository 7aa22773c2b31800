"""The keeper's metrics over HTTP: what is answered, refused, bounded, and taken already."""

import asyncio
import contextlib
import logging
import os
import shutil
import socket
import stat
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from scopekeeper.errors import ConflictError, UnavailableError, UsageError
from scopekeeper.keeper import metrics_address, metrics_server
from scopekeeper.keeper.metrics_address import TcpAddress, UnixAddress, parse
from scopekeeper.keeper.metrics_server import CLIENTS, MetricsServer
from scopekeeper.metrics.facts import Facts, Health
from tests.docs.blocks import blocks
from tests.docs.how_to import section

HEALTH = Health("lab", True, False, 3, 2, 1, 4, {"info": 1})
OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("/run/x/metrics", UnixAddress("/run/x/metrics")),
        ("9464", TcpAddress("127.0.0.1", 9464)),
        ("127.0.0.2:1", TcpAddress("127.0.0.2", 1)),
        ("[::1]:9464", TcpAddress("::1", 9464)),
        ("::1:9464", TcpAddress("::1", 9464)),
        ("0.0.0.0:65535", TcpAddress("0.0.0.0", 65535)),
    ],
)
def test_an_address_can_be_given_in_several_ways(text, address):
    assert parse(text) == address
    assert parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    ["", ":", "0", "65536", "-1", "9464x", "localhost:9464", "example.org:80", ":9464", "1.2.3:80",
     "127.0.0.1", "٣٤٥", "9" * 400, "socket", "\udc80", "127.0.0.1:", "[::1]"],
)  # fmt: skip
def test_what_is_no_address_is_wrong_usage(text):
    with pytest.raises(UsageError, match="give unix, the path of a socket, PORT or ADDRESS:PORT"):
        parse(text)


def test_unix_is_a_socket_beside_that_of_the_keeper(monkeypatch):
    monkeypatch.setattr("scopekeeper.keeper_address.address", lambda: "/run/user/7/s/keeper")
    assert parse("unix") == UnixAddress("/run/user/7/s/metrics")


class Served:
    """A server, and clients of it."""

    def __init__(self, address, facts=None):
        self.address = parse(address)
        self.reads = 0
        self._facts = facts

    def read(self):
        self.reads += 1
        if isinstance(self._facts, Exception):
            raise self._facts
        return self._facts or Facts("lab", ends={})

    async def __aenter__(self):
        self.server = MetricsServer(self.address, self.read, lambda: HEALTH)
        self._task = asyncio.create_task(self.server.serve())
        for _ in range(1000):
            with contextlib.suppress(OSError):
                await self.ask("HEAD / HTTP/1.1")
                await until(lambda: not self.server._clients)
                return self
            await asyncio.sleep(0.01)
        raise AssertionError("it does not listen")

    async def __aexit__(self, *_):
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def connect(self):
        if isinstance(self.address, UnixAddress):
            return await asyncio.open_unix_connection(self.address.path)
        return await asyncio.open_connection(self.address.host, self.address.port)

    async def ask(self, line="GET /metrics HTTP/1.1", *headers):
        reader, writer = await self.connect()
        writer.write("\r\n".join((line, *headers, "", "")).encode("latin-1"))
        answer = await asyncio.wait_for(reader.read(), 30)
        writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        return head.decode(), body.decode()


async def until(condition):
    for _ in range(6000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come about")


def run(test, *arguments, **how):
    async def whole():
        async with Served(*arguments, **how) as served:
            return await test(served)

    return asyncio.run(whole())


def test_a_socket_is_its_users_alone_and_gone_with_the_server(tmp_path):
    path = tmp_path / "metrics"

    async def test(served):
        found = path.lstat()
        assert (stat.S_ISSOCK(found.st_mode), found.st_mode & 0o777) == (True, 0o600)
        assert found.st_uid == os.geteuid()
        head, body = await served.ask()
        assert head.startswith("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4")
        return {sample.name: sample.value for family in text_string_to_metric_families(body)
                for sample in family.samples}  # fmt: skip

    found = run(test, str(path))
    assert (found["scopekeeper_keeper_runs"], found["scopekeeper_keeper_bus_connected"]) == (2, 0)
    assert found["process_resident_memory_bytes"] > 1 << 20
    assert not path.exists()


def test_a_path_that_is_too_long_for_a_socket_is_served_too(tmp_path):
    folder = tmp_path / ("x" * 100) / ("y" * 100)
    folder.mkdir(parents=True)
    listening = metrics_address.listen(UnixAddress(f"{folder}/metrics"))
    listening.close()
    assert (folder / "metrics").is_socket()
    metrics_address.listen(UnixAddress(f"{folder}/metrics")).close()  # it is stale by now


@pytest.mark.parametrize(
    ("line", "headers", "status"),
    [
        ("GET /metrics HTTP/1.1", ["Host: 127.0.0.1:9464"], 200),
        ("GET /metrics HTTP/1.1", ["Host: localhost:1"], 200),
        ("GET /metrics HTTP/1.1", ["Host: LOCALHOST"], 200),
        ("GET /metrics HTTP/1.0", ["host: [::1]:9464"], 200),
        ("GET /metrics?x=1 HTTP/1.1", ["Host: 127.0.0.1"], 200),
        ("HEAD /metrics HTTP/1.1", ["Host: 127.0.0.1"], 200),
        ("GET / HTTP/1.1", ["Host: 127.0.0.1"], 404),
        ("GET /metrics/../etc/passwd HTTP/1.1", ["Host: 127.0.0.1"], 404),
        ("POST /metrics HTTP/1.1", ["Host: 127.0.0.1"], 405),
        ("\x00\xff", ["Host: 127.0.0.1"], 405),
        ("GET /metrics HTTP/1.1", ["Host: evil.example:9464"], 403),
        ("GET /metrics HTTP/1.1", ["Host: localhost.evil.example"], 403),
        ("GET /metrics HTTP/1.1", [], 403),
    ],
)
def test_only_the_metrics_are_answered_and_no_page_in_a_browser_reads_them(line, headers, status):
    head, body = run(lambda served: served.ask(line, *headers), str(free_port()))
    assert head.startswith(f"HTTP/1.1 {status} ")
    assert ("scopekeeper_build_info" in body) is (status == 200 and not line.startswith("HEAD"))


def test_any_name_is_answered_where_others_are_meant_to_reach_it():
    assert TcpAddress("192.0.2.1", 1).answers_to("metrics.example:1")
    assert not TcpAddress("::1", 1).answers_to("metrics.example:1")


def test_who_asks_for_openmetrics_gets_it(tmp_path):
    head, body = run(lambda s: s.ask("GET /metrics HTTP/1.1", f"Accept: {OPENMETRICS}"),
                     str(tmp_path / "m"))  # fmt: skip
    assert "Content-Type: application/openmetrics-text; version=" in head
    assert body.endswith("# EOF\n")


def test_it_reads_at_most_once_a_second(tmp_path):
    async def test(served):
        began = time.monotonic()
        await asyncio.gather(*(served.ask() for _ in range(10)))
        for _ in range(10):
            await served.ask()
        return served.reads, time.monotonic() - began

    reads, seconds = run(test, str(tmp_path / "m"))
    assert 1 <= reads <= 1 + seconds


def test_what_cannot_be_read_is_answered_so_and_logged_once(tmp_path, caplog):
    async def test(served):
        return [await served.ask() for _ in range(3)]

    error = OSError(24, "Too many open files")
    answers = run(test, str(tmp_path / "m"), facts=error)
    assert {head.partition("\r\n")[0] for head, _ in answers} == {
        "HTTP/1.1 500 Internal Server Error"
    }
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR] == [
        "metrics: Too many open files"
    ]


def test_silent_and_endless_clients_leave_and_more_than_it_serves_are_refused(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(metrics_server, "_SECONDS", 5.0)

    async def test(served):
        silent = [await served.connect() for _ in range(CLIENTS)]
        reader, writer = await served.connect()
        assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
        writer.close()
        for reader, _ in silent:
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), 30) == b""
        endless, writer = await served.connect()
        with contextlib.suppress(ConnectionError):
            for _ in range(10_000):
                writer.write(b"x" * 1000)
                await writer.drain()
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(endless.read(), 30) == b""
        return await served.ask()

    head, _ = run(test, str(tmp_path / "m"))
    assert head.startswith("HTTP/1.1 200 ")


def test_a_client_that_reads_nothing_leaves_too(tmp_path, monkeypatch):
    monkeypatch.setattr(metrics_server, "_SECONDS", 1.0)
    facts = Facts("lab", members={"x" * 100 + str(n): n for n in range(40_000)})

    async def test(served):
        reader, writer = await served.connect()
        writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
        await until(lambda: served.server._clients == 1)
        await until(lambda: served.server._clients == 0)
        with contextlib.suppress(ConnectionError):
            got = await asyncio.wait_for(reader.read(), 30)
            assert len(got) < 4_000_000  # what was on its way
        writer.close()

    run(test, str(tmp_path / "m"), facts=facts)


@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl")
def test_the_line_of_the_page_prints_what_a_socket_serves(tmp_path):
    *_, line = blocks(section("metrics.md", "By the keeper"), "sh")
    (tmp_path / "scopekeeper").mkdir()

    async def test(_served):
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
        curl = await asyncio.create_subprocess_shell(
            line, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, env=environment
        )
        printed, _ = await curl.communicate()
        return curl.returncode, b"scopekeeper_build_info" in printed

    assert run(test, str(tmp_path / "scopekeeper/metrics")) == (0, True)


# What is there already


def test_a_socket_that_nobody_listens_at_is_replaced(tmp_path):
    path = str(tmp_path / "m")
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(path)
    metrics_address.listen(UnixAddress(path)).close()


@pytest.mark.parametrize("kind", ["a socket", "a file", "a folder", "a link"])
def test_what_is_in_the_way_is_refused_in_one_line_and_stays(tmp_path, kind):
    path = tmp_path / "m"
    with socket.socket(socket.AF_UNIX) as other:
        if kind == "a socket":
            other.bind(str(path))
            other.listen()
        elif kind == "a file":
            path.write_text("precious")
        elif kind == "a folder":
            path.mkdir()
        else:
            path.symlink_to("/nowhere")
        before = path.lstat()
        with pytest.raises(ConflictError, match=r"is taken: .*; give another path") as refused:
            metrics_address.listen(UnixAddress(str(path)))
        assert path.lstat() == before
    assert "\n" not in str(refused.value)


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(UnavailableError, match="No such file"):
        metrics_address.listen(UnixAddress(str(tmp_path / "no/m")))


def test_a_port_that_is_taken_is_logged_once_and_served_when_it_is_free(monkeypatch, caplog):
    monkeypatch.setattr(metrics_server, "_AGAIN", 0.05)
    caplog.set_level(logging.INFO)

    async def test():
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            server = MetricsServer(parse(str(port)), lambda: Facts("lab"), lambda: HEALTH)
            task = asyncio.create_task(server.serve())
            await until(lambda: caplog.records)
        served = Served(str(port))
        served._task = task
        while True:
            with contextlib.suppress(ConnectionError):
                head, _ = await served.ask("GET /metrics HTTP/1.1", "Host: 127.0.0.1")
                break
            await asyncio.sleep(0.01)
        await served.__aexit__()
        return port, head

    port, head = asyncio.run(test())
    assert head.startswith("HTTP/1.1 200 ")
    assert [record.getMessage() for record in caplog.records] == [
        (
            f"no metrics are served: 127.0.0.1:{port} is taken by another process; "
            f"`ss -ltnp sport = :{port}` shows which; give another port"
        ),
        f"metrics are served at 127.0.0.1:{port}",
    ]
