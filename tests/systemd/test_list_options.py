"""Lists of a real machine: filtered, sorted, cut to columns, as trees; processes and ports."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.machine import FOREVER, PROGRAM, Scopekeeper, eventually

from .test_listing import UUID, on_terminal

pytestmark = pytest.mark.systemd
SERVER = """
import os, socket, sys
kind, path = sys.argv[1:]
if kind == "unix":
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()
else:
    types = {"udp": socket.SOCK_DGRAM, "tcp": socket.SOCK_STREAM}
    server = socket.socket(socket.AF_INET, types[kind])
    server.bind(("127.0.0.1", 0))
    if kind == "tcp":
        server.listen()
    path += ".port"
    with open(path, "w") as file:
        file.write(str(server.getsockname()[1]) + "\\n")
if not os.fork():
    sys.stdin.read()
os.wait()
"""


def lines_of(keeper: Scopekeeper, *arguments: str) -> list[str]:
    done = keeper.call(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_scopes_are_filtered_sorted_and_cut_to_columns(keeper: Scopekeeper, session: str) -> None:
    keys = {f"{session}:{count}": count for count in (3, 1, 2)}
    for key, count in keys.items():
        for at in range(count):
            keeper.member("-s", key, "-n", f"n{at}", "--", *FOREVER)
    ours = f"session~^{re.escape(session)}:"
    columns = ("ls", "--where", ours, "--columns", "session,procs,unit", "--no-headers")
    found = [line.split() for line in lines_of(keeper, *columns, "--sort", "-procs")]
    assert [words[:2] for words in found] == [[f"{session}:{n}", str(n)] for n in (3, 2, 1)]
    assert all(words[2].startswith("scopekeeper-") for words in found)
    found = [x.split() for x in lines_of(keeper, *columns, "--sort", "session", "--where=procs<3")]
    assert [words[1] for words in found] == ["1", "2"]
    answer = json.loads(keeper.call("ls", "--json", "--where", ours, "--sort", "procs").stdout)
    assert [scope["processes"] for scope in answer["scopes"]] == [1, 2, 3]
    none = keeper.call("ls", "--where", "session=none")
    assert (none.returncode, none.stdout.split()[0]) == (0, "SESSION")
    assert none.stderr.startswith("No scope of yours fulfils --where; ")
    *_, total = on_terminal(f"ls --where '{ours}'")
    assert total.startswith("3 scopes of 3 sessions, 6 members, 6 processes")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("ls", "--where", "nofield=1"), "there is no field 'nofield'; there are user, session"),
        (("ls", "--sort", "nofield"), "--sort: there is no field 'nofield'"),
        (("ls", "--columns", ""), "--columns: there is no field ''"),
        (("ls", "--json", "--columns", "session"), "--json and --columns exclude each other"),
        (("ls", "--tree", "--json"), "--tree and --json exclude each other"),
        (("history", "--where", "peak>x"), "'x' is not a size"),
        (("history", "--by", "reason", "--sort", "evidence"), "there is no field 'evidence'"),
        (("reconcile", "--where", "session=x"), "--where only selects what --dry-run prints"),
        (("why", "x", "--where", "age>1"), "there is no field 'age'; there are user, ended"),
        (("ps", "--where", "rss~x"), "rss is a size"),
        (("ports", "--port", "0"), "0 is not in the range"),
    ],
)
def test_a_wrong_option_is_one_line_and_nothing_is_done(
    keeper: Scopekeeper, arguments: tuple[str, ...], words: str
) -> None:
    done = keeper.call(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_tree_has_session_lane_scope_member_and_processes(
    keeper: Scopekeeper, session: str
) -> None:
    key = f"{session}:claude:{UUID}"
    process = keeper.member("-s", key, "-l", "nested:x", "-n", "deep", "--",
                            "sh", "-c", "sleep infinity & wait")  # fmt: skip
    child = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    eventually(lambda: child.read_text().split())
    child_pid = child.read_text().split()[0]
    whole = lines_of(keeper, "ls", "--tree", "-s", key, "--columns", "name", "--no-headers")
    assert whole == [
        key, "└─ nested:x", "   └─ mcp", "      └─ deep",
        f"         └─ {process.pid} sh -c sleep infinity & wait",
        f"            └─ {child_pid} sleep infinity",
    ]  # fmt: skip
    narrow = on_terminal(f"ls --tree -s {key}", 60)
    assert any(line.startswith(f"            └─ {child_pid} ") for line in narrow), narrow


def test_what_ended_is_filtered_and_summed(keeper: Scopekeeper, session: str) -> None:
    for name in ("one", "one", "two"):
        process = keeper.member("-s", session, "-n", name, "--", *FOREVER)
        assert keeper.call("stop", "-s", session).returncode == 0
        process.wait()
    by_name = ("history", "-s", session, "--by", "name")
    found = [x.split()[:2] for x in lines_of(keeper, *by_name, "--sort", "-ends", "--no-headers")]
    assert found == [["one", "2"], ["two", "1"]]
    groups = json.loads(keeper.call(*by_name, "--json").stdout)["groups"]
    ends = json.loads(keeper.call("history", "-s", session, "--json").stdout)["ends"]
    for group in groups:
        own = [end for end in ends if end["member"] == group["name"]]
        assert group["ends"] == len(own)
        assert group["cpu_usec"] == sum(end["cpu_usec"] for end in own)
        seconds = sum(end["ended"] - end["started"] for end in own)
        assert group["time_s"] == pytest.approx(seconds, abs=0.01)
    rows = lines_of(keeper, "history", "-s", session, "--where", "member=two", "--no-headers")
    assert len(rows) == 1
    newest = lines_of(keeper, "history", "-s", session, "--sort", "-ended", "-n", "1",
                      "--columns", "member", "--no-headers")  # fmt: skip
    assert newest == ["two"]
    (line,) = lines_of(keeper, "why", session, "--where", "member=two")
    assert " two (" in line
    assert on_terminal(f"history -s {session}")[-1].startswith("3 ends, ")


def test_colours_are_for_a_terminal_and_as_asked(keeper: Scopekeeper, session: str) -> None:
    keeper.member("-s", session, "--", *FOREVER)

    def printed(environment: str, options: str = "") -> str:
        script = f"env {environment} {PROGRAM} ls -s {session} {options}"
        return subprocess.run(
            ["script", "-qec", script, "/dev/null"], stdin=subprocess.DEVNULL,
            capture_output=True, text=True,
        ).stdout  # fmt: skip

    green = "\x1b[32mrunning\x1b[0m"
    assert green in printed("TERM=xterm NO_COLOR=")
    for environment in ("TERM=xterm NO_COLOR=1", "TERM=dumb", "-u TERM"):
        assert "\x1b" not in printed(environment)
    assert "\x1b" not in printed("TERM=xterm", "--color=never")
    assert green in printed("TERM=xterm NO_COLOR=1", "--color=always")
    assert "\x1b" not in keeper.call("ls", "-s", session).stdout
    assert green in keeper.call("ls", "-s", session, "--color", "always").stdout


def test_a_name_that_colours_is_shown_not_obeyed(keeper: Scopekeeper, session: str) -> None:
    keeper.member("-s", f"{session}:\x1b[31mred", "-n", "x", "--", *FOREVER)
    for command in ("ls", "ls --tree", "ps"):
        done = keeper.call(*command.split(), "--color", "always")
        assert "\x1b[31mred" not in done.stdout
        assert "\\x1b[31mred" in done.stdout


def test_ps_shows_the_processes_of_a_member_and_nothing_else(
    keeper: Scopekeeper, session: str
) -> None:
    one = keeper.member("-s", session, "-n", "one", "--", "sh", "-c", "sleep infinity & wait")
    two = keeper.member("-s", session, "-n", "two", "--", *FOREVER)
    children = Path(f"/proc/{one.pid}/task/{one.pid}/children")
    child = int(eventually(lambda: children.read_text().split())[0])

    def pids(*words: str) -> list[int]:
        answer = json.loads(keeper.call("ps", *words, "--json").stdout)
        return [each["pid"] for each in answer["processes"]]

    assert pids(session) == [one.pid, child, two.pid]
    assert pids("one", "-s", session) == [one.pid, child]
    assert pids("-s", session, "--sort", "-pid", "--where", "member=one") == sorted(
        [one.pid, child], reverse=True
    )
    lines = lines_of(keeper, "ps", session, "--columns", "pid,command", "--no-headers")
    assert lines[1].split(maxsplit=1) == [str(child), "└─ sleep infinity"]
    assert keeper.call("ps", "no such word").returncode == 4
    assert len(on_terminal(f"ps {session}")) >= 4


@pytest.mark.parametrize("kind", ["tcp", "udp", "unix"])
def test_a_port_leads_to_its_member(
    keeper: Scopekeeper, session: str, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "socket"
    process = keeper.member("-s", session, "-n", "web", "--", sys.executable, "-c", SERVER, kind,
                            str(path), stdin=subprocess.PIPE)  # fmt: skip

    def found(*words: str) -> list[dict[str, object]]:
        answer = json.loads(keeper.call("ports", *words, "--json").stdout)
        return [x for x in answer["ports"] if x["session"] == session]

    def holds_it() -> bool:
        """Two processes are seen to have it: an observer reads their descriptors."""
        tasks = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        return bool(tasks) and (path.exists() or path.with_suffix(".port").exists())

    eventually(holds_it)
    (each,) = eventually(lambda: [x for x in found(session) if len(x["pids"]) == 2])  # type: ignore[arg-type]
    assert (each["member"], each["protocol"]) == ("web", kind)
    assert process.pid in each["pids"]  # type: ignore[operator]
    if kind == "unix":
        assert (each["address"], each["port"]) == (str(path), None)
        return
    port = int(path.with_suffix(".port").read_text())
    assert (each["address"], each["port"]) == ("127.0.0.1", port)
    assert len(found("--port", str(port))) == 1
    row = keeper.call("ports", "--port", str(port), "--no-headers").stdout.split()
    assert row[:5] == [kind, f"127.0.0.1:{port}", session, "main", "web"]
    assert keeper.call("stop", "-s", session).returncode == 0
    none = keeper.call("ports", "--port", str(port))
    assert none.returncode == 4
    assert none.stderr == (
        f"scopekeeper: nothing listens on port {port} in this network namespace\n"
    )


def test_a_port_outside_of_every_scope_is_named_with_its_process(keeper: Scopekeeper) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = keeper.call("ports", "--port", str(port))
        assert (done.returncode, done.stdout) == (4, "")
        assert f"port {port}: pid {os.getpid()} (" in done.stderr
