"""What ``-H`` prints: a stand-in for ssh answers what it is given to; the lab has a real one."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from terminals import printed

from scopekeeper.cli.main import group
from scopekeeper.hosts.ssh import MARK

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "scopekeeper"]

SSH = """\
#!/bin/sh
for host; do [ "$last" = -- ] && break; last=$host; done
echo "$@" >>FOLDER/calls
cat FOLDER/$host.out; cat FOLDER/$host.err >&2
exit $(cat FOLDER/$host.status)
"""
SCOPE = {
    "unit": "scopekeeper-s-main.scope", "user": "me", "session": "s", "label": None, "lane": "main",
    "run": None, "kind": "mcp", "state": "running", "problem": None, "age_s": 65.0, "ends": None,
    "ends_in_s": None, "processes": 3, "memory_bytes": 5 << 20, "cpu_usec": 1_500_000,
    "owners": "my.service", "title": None, "session_id": None, "lifetime": "gateway",
    "ended_by": "systemctl --user stop x",
    "members": [{"name": "time", "processes": 3, "pid": 7, "state": "running", "argv": ["a", "b"],
                 "problem": None, "claims": None, "age_s": 60.0, "idle_s": None}],
}  # fmt: skip
END = {
    "user": "me", "session": "s", "label": None, "lane": "main", "run": None, "member": "time",
    "started": 1_700_000_000.0, "ended": 1_700_000_060.0, "seen": True, "reason": "oom-killed",
    "exit_status": None, "signal": 9, "memory_peak": 1 << 30, "cpu_usec": 2_000_000,
    "evidence": "the kernel said so", "argv": ["x"], "unit": "u", "processes": 1, "killed": 1,
}  # fmt: skip
PROCESS = {
    "user": "me", "session": "s", "lane": "main", "unit": "u", "member": "time", "member_id": "1",
    "pid": 7, "parent": 1, "state": "sleeping", "age_s": 5.0, "cpu_s": 1.0, "rss_bytes": 4096,
    "command": "server", "listens": [{"protocol": "tcp", "address": "::1", "port": 80}],
}  # fmt: skip


class Hosts:
    """The stand-in, and what its hosts answer."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        (folder / "ssh").write_text(SSH.replace("FOLDER", str(folder)))
        (folder / "ssh").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def answer(self, host, document, status=0, err=""):
        text = document if isinstance(document, str) else json.dumps({"version": 1, **document})
        self.raw(host, f"{MARK}\n{text}", f"{MARK}\n{err}", status)

    def raw(self, host, out, err, status):
        (self.folder / f"{host}.out").write_text(out)
        (self.folder / f"{host}.err").write_text(err)
        (self.folder / f"{host}.status").write_text(str(status))

    def down(self, host):
        self.raw(host, "", f"ssh: connect to host {host} port 22: No route to host\n", 255)

    @property
    def calls(self):
        return (self.folder / "calls").read_text().splitlines()


@pytest.fixture
def hosts(tmp_path, monkeypatch):
    return Hosts(tmp_path, monkeypatch)


def call(line):
    done = CliRunner().invoke(group, line.split(), prog_name="scopekeeper")
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def rows(text):
    return [re.split(r"  +", line) for line in text.splitlines()]


def scopes(*changes):
    return {"scopes": [{**SCOPE, **each} for each in changes], "unread": [], "outliving": []}


def test_scopes_of_all_hosts_are_one_table_and_a_dead_host_is_a_line(hosts):
    hosts.answer("a", scopes({}, {"session": "t", "ends": "later", "ends_in_s": 600}))
    hosts.answer("b", scopes({"label": "mine", "ends": "never"}))
    hosts.down("c")
    rest = ["main", "-", "mcp", "running", "1", "3", "5M", "1.5s", "1m5s"]
    done = call("ls -H a -H b -H c")
    assert rows(done.stdout) == [
        ["HOST", "SESSION", "LANE", "RUN", "KIND", "STATE", "MEMBERS", "PROCS", "MEMORY", "CPU",
         "AGE", "ENDS", "OWNER"],
        ["a", "s", *rest, "-", "my.service"],
        ["a", "t", *rest, "in 10m", "my.service"],
        ["b", "mine", *rest, "never", "my.service"],
    ]  # fmt: skip
    assert done.stderr == "scopekeeper: c: ssh: connect to host c port 22: No route to host\n"
    assert done.exit_code == 1


def test_rows_are_sorted_and_selected_over_all_hosts(hosts):
    hosts.answer("a", scopes({"session": "x", "memory_bytes": 1}, {"session": "y"}))
    hosts.answer("b", scopes({"session": "z", "memory_bytes": 9 << 30}))
    done = call("ls -H a -H b --sort -memory --columns host,session --no-headers")
    assert rows(done.stdout) == [["b", "z"], ["a", "y"], ["a", "x"]]
    done = call("ls -H a -H b --where host=b --where memory>1G --columns session --no-headers")
    assert done.stdout == "z\n"
    assert "'--where=memory>1G'" in hosts.calls[-1]
    assert "host" not in hosts.calls[-1].partition("scopekeeper")[2]


def test_members_and_problems_are_beneath_their_scope(hosts):
    hosts.answer("a", scopes({}, {"problem": "damaged"}))
    lines = call("ls -H a --members").stdout.splitlines()
    member = "    time  pid 7  running  3 processes  1m old  a b"
    assert lines[2:] == [
        member, lines[3], "    damaged; end it there: systemctl --user stop x", member,
    ]  # fmt: skip
    assert "damaged" in call("ls -H a").stdout


def test_json_has_each_host_with_its_document_and_what_it_printed(hosts):
    hosts.answer("a", scopes({}), 4, "scopekeeper: no run is 'x'\n")
    hosts.down("b")
    found = json.loads(call("ls -H a -H b --json").stdout)
    first, second = found["hosts"]
    assert found["version"] == 1
    assert (first["host"], first["status"], first["problem"]) == ("a", 4, None)
    assert first["messages"] == ["no run is 'x'"]
    assert first["answer"]["scopes"][0]["session"] == "s"
    assert (second["status"], second["answer"]) == (None, None)
    assert second["problem"].startswith("ssh: connect to host b")


def test_the_same_words_of_several_hosts_are_one_line(hosts):
    for host in "abcdef":
        hosts.answer(host, scopes(), 4, "scopekeeper: no run is 'x'\n")
    done = call("ls x -H a -H b -H c -H d -H e -H f --no-headers")
    assert done.exit_code == 4
    assert done.stderr.splitlines()[-1] == "scopekeeper: a, b, c, d and 2 more: no run is 'x'"
    hosts.answer("f", scopes({"session": "x"}))
    assert call("ls x -H a -H f").exit_code == 0


def test_a_host_with_a_wrong_document_is_a_line_and_the_others_are_printed(hosts):
    hosts.answer("a", scopes({}))
    for wrong, words in (
        ({"scopes": "no"}, "'scopes' in its answer is not a list"),
        ({}, "its answer has no 'scopes': its scopekeeper is older, or newer"),
        (scopes({"session": 7}), "'session' in its answer is not a text"),
        (scopes({"members": [1]}), "'members' in its answer is not a list of objects"),
        ('{"version": 2}', "its answer has version 2, this scopekeeper reads 1"),
        ("Traceback", "its answer is no JSON, or not all of it"),
        ({"scopes": [], "owned_problems": 7}, "'owned_problems' in its answer is not a list"),
    ):
        hosts.answer("b", wrong)
        done = call("ls -H a -H b --columns session --no-headers")
        assert done.stdout == "s\n"
        assert words in done.stderr
        assert done.stderr.count("\n") == 1


def test_nothing_that_a_host_sends_reaches_the_terminal_as_a_control_character(hosts):
    evil = "\x1b]0;x\x07\x1b[2J\r\n\u202e"
    keys = ("session", "lane", "state", "owners", "problem", "ended_by", "title", "user")
    change = dict.fromkeys(keys, evil)
    hosts.answer("a", scopes(change), 0, f"scopekeeper: {evil}\n")
    hosts.raw("b", evil, evil, 255)
    for line in ("ls -H a -H b", "ls -H a -H b --members", "why -H a -H b x"):
        out = "\n".join(printed([*PROGRAM, *line.split()], cwd=ROOT))
        assert not re.search(r"[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f\u202e]", out), out
        assert not re.search(r"\x1b[^\[]|\x1b\[2J", out), out


def test_the_table_fits_80_columns_and_has_a_total(hosts):
    long = {"session": "agent:main:whatsapp:group:120363424242424242@g.us", "title": "A title"}
    hosts.answer("build-machine-17.example.org", scopes(long, {}))
    hosts.answer("b", scopes(long))
    line = "ls -H build-machine-17.example.org -H b --members"
    lines = [re.sub(r"\x1b\[\d+m", "", x) for x in printed([*PROGRAM, *line.split()], cwd=ROOT)]
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("HOST")
    assert "3 scopes of 3 sessions, 3 members, 9 processes, 15M of memory, 4.5s of CPU" in " ".join(
        lines
    )
    assert " ".join(lines).endswith("on 2 hosts")


def test_ends_of_all_hosts_are_in_the_order_of_time_and_bounded(hosts):
    ends = [{**END, "member": f"m{at}", "ended": 1_700_000_000.0 + at} for at in range(6)]
    hosts.answer("a", {"ends": ends[::2]})
    hosts.answer("b", {"ends": ends[1::2]})
    done = call("history -H a -H b --limit 4 --columns host,member,status,peak --no-headers")
    newest = ((2, "a"), (3, "b"), (4, "a"), (5, "b"))
    assert rows(done.stdout) == [[host, f"m{at}", "SIGKILL", "1.0G"] for at, host in newest]
    assert "--limit=4" in hosts.calls[-1]
    done = call("history -H a -H b --limit 2 --sort -member --columns member --no-headers")
    assert done.stdout.split() == ["m5", "m4"]
    assert "--limit=4" not in hosts.calls[-1]


def test_sums_have_a_row_for_each_host_and_key(hosts):
    of_a = {"user": "me", "lane": "main", "ends": 3, "time_s": 60.0, "times_are_at_most": True,
            "memory_peak": 1 << 20, "cpu_usec": 5_000_000, "cpu_unknown": 1}  # fmt: skip
    hosts.answer("a", {"by": "lane", "groups": [of_a]})
    hosts.answer("b", {"by": "lane", "groups": [{**of_a, "ends": 9, "cpu_unknown": 0}]})
    done = call("history -H a -H b --by lane --sort -ends --where evidence~x")
    assert rows(done.stdout)[1:] == [["b", "main", "9", "≤1m", "1M", "5.0s"],
                                     ["a", "main", "3", "≤1m", "1M", "≥5.0s"]]  # fmt: skip
    assert "'--where=evidence~x'" in hosts.calls[-1]


def test_processes_are_a_tree_in_each_member_also_if_their_parents_go_round(hosts):
    child = {**PROCESS, "pid": 8, "parent": 7, "command": "child", "listens": []}
    hosts.answer("a", {"processes": [PROCESS, child], "warnings": ["1 process elsewhere"]})
    round_ = [{**PROCESS, "pid": 1, "parent": 2}, {**PROCESS, "pid": 2, "parent": 1}]
    hosts.answer("b", {"processes": [*round_, *round_], "warnings": []})
    done = call("ps -H a -H b --columns host,pid,ports,command --no-headers")
    assert rows(done.stdout) == [
        ["a", "7", "80", "server"], ["a", "8", "-", "└─ child"],
        *[["b", str(pid), "80", "server"] for pid in (1, 2, 1, 2)],
    ]  # fmt: skip
    assert done.stderr == "scopekeeper: a: warning: 1 process elsewhere\n"


def test_sockets_have_their_address(hosts):
    socket = {**PROCESS, "protocol": "tcp", "address": "::1", "port": 80, "pids": [7]}
    hosts.answer(
        "a", {"ports": [socket, {**socket, "address": "/run/x", "port": None, "pids": []}]}
    )
    done = call("ports -H a --columns host,address,pid,port --no-headers")
    assert rows(done.stdout) == [["a", "[::1]:80", "7", "80"], ["a", "/run/x", "-", "-"]]


def action(**changes):
    return {"user": "me", "session": "s", "lane": "main", "run": None, "member": "time",
            "class": "orphan", "action": "stop", "outcome": None, "evidence": "e",
            "details": "e; pid 7 waits", "stopper": None, **changes}  # fmt: skip


def test_a_reconcile_prints_each_action_and_what_a_local_one_says_below(hosts):
    actions = [action(), action(stopper={"pid": 1}, label="L")]
    document = {"actions": actions, "lines": ["No keeper runs."]}
    hosts.answer("a", {**document, "owned_problems": ["a file is damaged"]})
    done = call("reconcile -H a --dry-run")
    assert rows(done.stdout) == [
        ["HOST", "SESSION", "LANE", "RUN", "MEMBER", "CLASS", "WOULD", "EVIDENCE"],
        ["a", "s", "main", "-", "time", "orphan", "stop", "e; pid 7 waits"],
        ["a", "L", "main", "-", "time", "orphan", "nothing", "e; pid 7 waits"],
        ["a: No keeper runs."],
    ]
    assert done.stderr == "scopekeeper: a: a file is damaged\n"
    hosts.answer("a", {"actions": [action(outcome="terminated")], "lines": []}, 5)
    done = call("reconcile -H a")
    assert rows(done.stdout)[1][6] == "terminated"
    assert done.exit_code == 5


def test_doctor_prints_what_is_not_as_it_should_be(hosts):
    checks = [
        {"check": "linux", "status": "ok", "detail": "6.1", "fix": None},
        {"check": "keeper", "status": "limit", "detail": "not there", "fix": "install it"},
    ]
    hosts.answer("a", {"verdict": "usable, with limits", "checks": checks}, 1)
    hosts.answer("b", {"verdict": "usable", "checks": checks[:1]})
    done = call("doctor -H a -H b")
    assert rows(done.stdout) == [
        ["HOST", "STATUS", "CHECK", "DETAIL"],
        ["a", "limit", "keeper", "not there"],
        ["", "→ install it"],
        ["a: scopekeeper is usable, with limits"],
        ["b: scopekeeper is usable"],
    ]
    assert done.exit_code == 1
    hosts.down("b")
    assert call("doctor -H a -H b").exit_code == 2


def test_sentences_have_their_host_before_them(hosts):
    hosts.answer("a", {"lines": ["x: gone after 2 ms", "  pid 7 lives on"]}, 6)
    hosts.answer("b", {"lines": []})
    done = call("stop x -H a -H b")
    assert done.stdout == "a: x: gone after 2 ms\na:   pid 7 lives on\n"
    assert done.exit_code == 6


def test_a_stop_whose_answer_is_lost_says_that_nobody_knows(hosts):
    hosts.raw("a", f"{MARK}\n", f"{MARK}\nConnection closed\n", 255)
    hosts.down("b")
    lost = (
        "the connection was lost: Connection closed; what it has done is unknown: "
        "`scopekeeper ls -H a` shows what runs"
    )
    done = call("stop x -H a -H b")
    assert done.stderr.splitlines() == [
        f"scopekeeper: a: {lost}",
        "scopekeeper: b: ssh: connect to host b port 22: No route to host",
    ]
    assert "unknown" not in call("stop x -H a --dry-run").stderr


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ls -H -x", "'-x' is no host"),
        ("ls -H a;b", "'a;b' is no host"),
        ("ls -H @x", "there is no group '@x'"),
        ("ls -H a --tree", "-H and --tree exclude each other"),
        ("ls -H a --escaped", "-H and --escaped exclude each other"),
        ("ps -H a --mine", "-H and --mine exclude each other"),
        ("stop -H a --mine", "-H and --mine exclude each other"),
        ("ls -H a --where nofield=1", "there is no field 'nofield'; there are host, user"),
        ("ls -H a --json --columns host", "--json and --columns exclude each other"),
        ("ls -H", "requires an argument"),
        # else it would do more than it prints
        ("reconcile -H a --where host=a", "--where only selects what --dry-run prints"),
    ],
)
def test_a_wrong_call_is_one_line_and_no_host_is_asked(hosts, line, words):
    done = subprocess_call(line)
    assert done[0] == 2
    assert words in done[1]
    assert done[1].count("\n") == 1
    assert not (hosts.folder / "calls").exists()


def subprocess_call(line):
    done = subprocess.run(
        [*PROGRAM, *line.split()], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    return done.returncode, done.stderr
