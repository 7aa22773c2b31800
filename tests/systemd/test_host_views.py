"""What several hosts give together, over real ssh: metrics, a page, and the live view."""

import os
import re
import shutil
import signal
import socket
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scopekeeper.cli.top import host_rows
from scopekeeper.hosts.answer import parse
from tests.machine import (
    FOREVER,
    PATIENCE,
    PROGRAM,
    ROOT,
    Scopekeeper,
    eventually,
    is_alive,
    text_of,
)
from tests.scraping import Metrics

from .fleet import Fleet
from .pane import Pane, panes
from .ssh import IS_THERE

pytestmark = [
    pytest.mark.systemd,
    pytest.mark.skipif(not IS_THERE, reason="there is no ssh, or no server for it"),
]
Open = Callable[..., Pane]
NO_LINK = pytest.mark.skipif(
    not (ROOT and shutil.which("ip")), reason="only root cuts a link of a network"
)


@pytest.fixture
def pane(tmp_path: Path) -> Iterator[Open]:
    with panes(tmp_path) as call:
        yield call


@pytest.fixture
def name() -> str:
    """Name a session, short enough to be whole in a table."""
    return f"t{uuid.uuid4().hex[:6]}"


def streams() -> list[str]:
    """Return the processes that send what the live view shows."""
    return [
        each for each in os.listdir("/proc") if each.isdecimal()
        and text_of(f"/proc/{each}/cmdline").split("\0")[-3:-1] == ["top", "--json"]
    ]  # fmt: skip


def test_metrics_of_all_hosts_are_one_text(
    keeper: Scopekeeper,
    session: str,
    fleet: Fleet,
    tmp_path: Path,
) -> None:
    keeper.member("-s", session, "-n", "time", "--", *FOREVER)
    file = tmp_path / "all.prom"
    hosts = ("-H", "@both", "-H", "down", "-H", "bare", "-H", "newer")
    done = keeper.call("metrics", *hosts, "--textfile", str(file))
    assert done.returncode == 1, done.stderr
    assert sorted(line.split(": ")[1] for line in done.stderr.splitlines()) == [
        "bare", "down", "newer",
    ]  # fmt: skip
    found = Metrics(file.read_text())
    up = {
        host: found.get("scopekeeper_host_up", host=host) for host in (*hosts[3::2], "one", "two")
    }
    assert up == {"down": 0, "bare": 0, "newer": 0, "one": 1, "two": 1}
    for host in ("one", "two"):
        assert found.get("scopekeeper_session_processes", host=host, session=session) == 1
    assert found.values("scopekeeper_build_info", "host") == {"one", "two"}


def test_a_page_of_all_hosts_has_each_of_them(
    keeper: Scopekeeper,
    session: str,
    fleet: Fleet,
    tmp_path: Path,
) -> None:
    keeper.member("-s", session, "-n", "time", "--", *FOREVER)
    file = tmp_path / "all.html"
    done = keeper.call("report", "-H", "@both", "-H", "down", str(file))
    assert done.returncode == 1
    assert re.fullmatch("scopekeeper: down: ssh: .*\n", done.stderr)
    page = file.read_text()
    assert "What ran on one, two, down" in page
    for host in ("one", "two"):
        assert re.search(f'\\["{host}",\\["running",[^]]*\\],"{session}"', page)
    assert "down: no answer: ssh: " in page


def test_what_is_sent_is_whole_and_ends_with_its_reader(keeper: Scopekeeper, name: str) -> None:
    member = keeper.member("-s", name, "-n", "time", "--", *FOREVER)
    words = [PROGRAM, "top", "--json", "-s", name]
    sending = keeper.popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    seen = host_rows.read("a", parse(sending.stdout.readline()))
    assert [each.scope.session for each in seen.scopes] == [name]
    assert [each.member.pids for each in seen.members] == [(member.pid,)]
    later = keeper.member("-s", name, "-n", "git", "--", *FOREVER)
    while later.pid not in {pid for each in seen.members for pid in each.member.pids}:
        seen = host_rows.read("a", parse(sending.stdout.readline()))
    sending.stdout.close()
    assert sending.wait(PATIENCE) == 0


def test_the_end_of_its_input_is_not_that_of_its_reader(keeper: Scopekeeper) -> None:
    """OpenSSH's server gives one socket for both, and the input of a call by -H has ended."""
    here, there = socket.socketpair()
    with here.makefile("rb") as reading:
        sending = keeper.popen([PROGRAM, "top", "--json"], stdin=there, stdout=there)
        there.close()
        here.shutdown(socket.SHUT_WR)
        assert all(parse(reading.readline()) for _ in range(3))
        assert sending.poll() is None
        here.close()
    assert sending.wait(PATIENCE) == 0


def test_hosts_are_one_live_view_and_a_scope_is_stopped_there(
    keeper: Scopekeeper,
    name: str,
    fleet: Fleet,
    pane: Open,
) -> None:
    member = keeper.member("-s", name, "-n", "time", "--", *FOREVER)
    other = keeper.member("-s", f"{name}-2", "-n", "time", "--", *FOREVER)
    top = pane(160, 24, "-H", "one", "-H", "down", "-H", "bare", "-H", "newer")
    top.shows(f"one +{name} ")
    top.shows(r"(?m)^down .* no answer ")
    top.shows(r"(?m)^bare .* no answer .*scopekeeper is not in the PATH")
    top.shows(r"(?m)^newer .* no answer ")
    top.shows("1 of 4 hosts answer, down: ssh: ")
    print("\n".join(top.shows(r"(?m)^one CPU .*, memory ")))
    top.type("m")
    top.shows(r"(?m)^one .* time ")
    top.type("m", "/", f"{name}-2", "Enter")
    top.shows(f"filter {name}-2: 1 scope of 1 session, 1 member, 1 process")
    top.type("Enter")
    top.shows(f"(?s){other.pid} .*the last ends in it:.*the history has no end of it")
    top.type("q", "a")
    top.shows("ssh -t one scopekeeper attach")
    top.type("l")
    top.shows("ssh -t one scopekeeper logs")
    top.type("s")
    lines = top.shows("stop it\\? y: yes")
    assert any("would end 1 process" in line for line in lines)
    top.type("y")
    assert other.wait(PATIENCE) == -signal.SIGTERM
    top.shows("one: scopekeeper-.*gone after")
    assert is_alive(member.pid)
    top.type("q")
    top.shows("status 0")
    eventually(lambda: not streams())


def test_a_host_that_does_not_answer_is_a_row_until_it_does(
    keeper: Scopekeeper,
    name: str,
    fleet: Fleet,
    pane: Open,
) -> None:
    keeper.member("-s", name, "--", *FOREVER)
    one = fleet.servers[0]
    one.stop()
    top = pane(120, 24, "-H", "one", "-H", "two")
    top.shows(f"two +{name} ")
    top.shows(r"(?m)^one .* no answer ")
    one.start()
    top.shows(f"one +{name} ")
    one.stop()
    top.shows(r"(?m)^one .* no answer ")
    keeper.member("-s", f"{name}-2", "--", *FOREVER)
    top.shows(f"two +{name}-2 ")
    one.start()
    top.shows(f"one +{name}-2 ")
    top.type("q")
    top.shows("status 0")


@NO_LINK
def test_a_host_whose_link_is_cut_is_a_row_and_the_view_goes_on(
    keeper: Scopekeeper,
    name: str,
    fleet: Fleet,
    pane: Open,
) -> None:
    """Nothing ends the connection: only that nothing comes any more shows it."""
    keeper.member("-s", name, "--", *FOREVER)
    top = pane(120, 24, "-H", "one", "-H", "two")
    top.shows(f"one +{name} ")
    network = fleet.servers[0].network
    assert network is not None
    network.cut()
    keeper.member("-s", f"{name}-2", "--", *FOREVER)
    top.shows(f"two +{name}-2 ")
    top.shows(r"(?m)^one .* no answer .*nothing came for 1. s")
    network.join()
    top.shows(f"one +{name}-2 ")
    top.type("q")
    top.shows("status 0")
