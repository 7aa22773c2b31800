"""A bug report: names are replaced, arguments left out, the size bounded, a hang cut short."""

import json
import os
import re
import signal
import stat
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.cli import captured, report_parts
from scopekeeper.cli.hidden_names import HiddenNames
from scopekeeper.cli.main import group
from scopekeeper.doctor.versions import versions
from scopekeeper.errors import ScopekeeperError
from scopekeeper.kernel import mounts
from scopekeeper.scope import names
from scopekeeper.scope.reason import Stopper
from scopekeeper.systemd import journal_lines

SESSION, MEMBER = "agent:spark:telegram:+41 79", "time"


def scope_of(session: str, lane: str = "nested:agent:spark", run: str = "run-of-it") -> dict:
    unit = names.unit_name(session, lane, run)
    leaf = names.leaf_name(MEMBER, "5e0c21ab")
    return {
        "unit": unit, "cgroup": f"/scopekeeper.slice/{unit}", "session": session, "lane": lane,
        "run": run, "session_id": run, "state": "running", "user": "alice",
        "owner": {"unit": "gateway.service", "pid": 7},
        "members": [{"name": MEMBER, "id": "5e0c21ab", "cgroup": f"/x/{unit}/{leaf}",
                     "argv": ["/opt/venv/bin/mcp-server-time", "--token", "hunter2"]}],
    }  # fmt: skip


def report_of(*scopes: dict, lines: tuple[str, ...] = ()) -> dict:
    return {"ls": {"scopes": list(scopes)}, "journal": {"lines": list(lines)}}


def test_an_owners_program_is_no_member_and_keeps_its_name():
    part = {"name": "time", "owner": {"name": "sh", "pid": 5}, "program": "sh"}
    hidden = HiddenNames(part).replace(part)
    assert hidden == {"name": "member-1", "owner": {"name": "sh", "pid": 5}, "program": "sh"}


def test_a_name_is_replaced_everywhere_it_can_stand():
    scope = scope_of(SESSION)
    leaf = names.leaf_name(MEMBER, "5e0c21ab")
    report = report_of(scope, lines=(
        f"{scope['unit']}/{leaf}: gone", f"the plan for {SESSION!r}",
        f"{MEMBER} of {SESSION} ended",
        f"scopekeeper@{names.escape(SESSION)}.service", "timed out; scopekeeper.service runs",
        names.unit_name("only:in:the:log", "main"), f"{SESSION}5 and {SESSION}",
    ))  # fmt: skip
    found = HiddenNames(report).replace(report)
    (hidden,) = found["ls"]["scopes"]
    assert (hidden["session"], hidden["lane"]) == ("session-1", "nested:lane-1")
    assert hidden["run"] == hidden["session_id"] == "id-1"
    assert hidden["unit"] == names.unit_name("session-1", "nested:lane-1", "id-1")
    assert hidden["cgroup"] == f"/scopekeeper.slice/{hidden['unit']}"
    (member,) = hidden["members"]
    assert member["name"] == "member-1"
    assert member["cgroup"] == f"/x/{hidden['unit']}/m-member\\x2d1.5e0c21ab"
    assert (hidden["state"], hidden["owner"]["unit"]) == ("running", "gateway.service")
    assert found["journal"]["lines"] == [
        f"{hidden['unit']}/m-member\\x2d1.5e0c21ab: gone", "the plan for 'session-1'",
        "member-1 of session-1 ended", "scopekeeper@session-1.service",
        "timed out; scopekeeper.service runs", names.unit_name("session-2", "main"),
        "lane-1:telegram:+41 795 and session-1",
    ]  # fmt: skip
    assert SESSION not in json.dumps(found["ls"])


def test_a_member_of_the_journal_is_the_one_of_the_list():
    leaf = names.leaf_name(MEMBER, "5e0c21ab")
    report = report_of(scope_of(SESSION), lines=({"session": SESSION, "member": leaf},))
    found = HiddenNames(report).replace(report)
    assert found["journal"]["lines"] == [
        {"session": "session-1", "member": r"m-member\x2d1.5e0c21ab"}
    ]
    assert found["ls"]["scopes"][0]["members"][0]["name"] == "member-1"


def test_a_label_is_hidden_as_a_session_is():
    scope = scope_of(SESSION) | {"label": "codex:0199a213"}
    report = report_of(scope, lines=("labelled codex:0199a213", {"label": "codex:0199a213"}))
    found = HiddenNames(report).replace(report)
    assert found["ls"]["scopes"][0]["label"] == "session-2"
    assert found["journal"]["lines"] == ["labelled session-2", {"label": "session-2"}]


def test_a_name_that_was_cut_in_its_unit_is_the_same_session():
    long = "agent:" + "x" * 400
    report = report_of(scope_of(long), lines=(f"{scope_of(long)['unit']}: gone",))
    found = HiddenNames(report).replace(report)
    (hidden,) = found["ls"]["scopes"]
    assert found["journal"]["lines"] == [f"{hidden['unit']}: gone"]
    assert hidden["unit"] == names.unit_name(hidden["session"], "nested:lane-1", "id-1")
    assert "xxx" not in json.dumps(found)


def test_the_word_of_doctors_own_session_and_the_login_name():
    report = report_of(scope_of("scopekeeper", "doctor"), lines=(
        "scopekeeper.service of alice", "malice",
    ))  # fmt: skip
    found = HiddenNames(report, "alice").replace(report)
    assert found["ls"]["scopes"][0]["session"] == "scopekeeper"
    assert found["journal"]["lines"] == ["scopekeeper.service of user", "malice"]


@given(st.text(min_size=1, max_size=40).filter(lambda text: "\0" not in text))
def test_no_name_survives_between_other_words(name):
    if not re.search(r"\w", name) or name == "scopekeeper":
        return
    report = report_of(scope_of(name), lines=(f"of «{name}» and «{names.escape(name)}»",))
    (line,) = HiddenNames(report).replace(report)["journal"]["lines"]
    assert f"«{name}»" not in line or name.startswith(("session-", "member-", "id-"))
    assert f"«{names.escape(name)}»" not in line or name.startswith(("session-", "member-", "id-"))


def test_a_command_line_is_its_programs_name_and_users_are_left_out():
    found = report_parts.without_arguments(scope_of(SESSION))
    assert found["members"][0]["program"] == "mcp-server-time"
    assert "user" not in found
    assert "hunter2" not in json.dumps(found)
    title = {"argv": ["postgres: alice secret/database"]}
    assert report_parts.without_arguments(title) == {"program": "postgres:"}
    asked = str(Stopper(7, 1000, "timeout", "alice", "pts/3"))
    shown = report_parts.without_arguments({"lines": [f"asked for by {asked}: x"]})
    assert shown == {"lines": ["asked for by timeout (pid 7, pts/3): x"]}
    assert report_parts.without_arguments({"title": "a prompt"}) == {}
    assert report_parts.without_arguments({"argv": None}) == {"program": None}
    assert report_parts.without_arguments({"argv": ["x" * 9999]})["program"][-1] == "…"


def test_a_report_is_as_long_as_it_may_be_and_keeps_what_is_newest():
    scopes = [scope_of(f"s:{number}") for number in range(4000)]
    lines = [f"{number:05} " + "x" * 900 for number in range(3000)]
    report = {"version": 1, "ls": {"scopes": scopes}, "journal": {"lines": list(lines)}}
    found = report_parts.fitted(report)
    assert len(json.dumps(found, indent=2)) <= report_parts.MOST_BYTES
    for part, name, whole in (("ls", "scopes", scopes), ("journal", "lines", lines)):
        assert found[part][name]
        assert found[part]["left_out"] == len(whole) - len(found[part][name])
    assert found["journal"]["lines"][-1] == lines[-1]
    assert found["ls"]["scopes"][0] == scopes[0]


def test_a_part_that_fails_is_one_line_and_the_others_are_there(monkeypatch):
    def asked(arguments, _seconds):
        if arguments[0] == "ls":
            raise ScopekeeperError("no answer in 60 s")
        if arguments[0] == "history":
            return captured.Printed(b"", b"scopekeeper: the history is broken; remove it\n", 1)
        return captured.Printed(b'{"version": 1, "checks": []}', b"", 0)

    monkeypatch.setattr(captured, "run", asked)
    monkeypatch.setattr(report_parts, "versions", lambda: 1 // 0)
    found = report_parts.parts()
    assert found["doctor"] == {"checks": [], "exit_status": 0}
    assert found["ls"] == {"problem": "no answer in 60 s"}
    assert found["history"] == {"problem": "the history is broken; remove it"}
    assert found["versions"]["problem"].startswith("internal error: ZeroDivisionError")
    lines = report_parts.problems(found)
    assert {"ls: no answer in 60 s", "history: the history is broken; remove it"} <= set(lines)


@pytest.fixture
def empty(monkeypatch):
    monkeypatch.setattr(report_parts, "parts", lambda: {"ls": {"scopes": [scope_of(SESSION)]}})


@pytest.mark.usefixtures("empty")
def test_the_file_is_private_whatever_the_umask_and_whatever_was_there(tmp_path):
    path = tmp_path / "report.json"
    path.write_text("old")
    path.chmod(0o666)
    umask = os.umask(0)
    try:
        done = CliRunner().invoke(group, ["bugreport", "-o", str(path), "--hide-names"])
    finally:
        os.umask(umask)
    assert (done.exit_code, str(path) in done.output) == (0, True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = json.loads(path.read_text())
    assert (found["version"], found["names_hidden"]) == (1, True)
    assert found["ls"]["scopes"][0]["session"] == "session-1"


def test_home_is_a_tilde():
    found = report_parts.without_home(
        {"a": ["/home/al/x: /home/al/y", 1, "/home/alice/z"]}, "/home/al"
    )
    assert found == {"a": ["~/x: ~/y", 1, "/home/alice/z"]}
    assert report_parts.without_home(["/x"], "") == ["/x"]


def test_many_names_and_a_long_text_take_no_time():
    scopes = [scope_of(f"agent:a:{number}") for number in range(3000)]
    lines = tuple(f"agent:a:{number} and agent:b:{number}, " * 8 for number in range(3000))
    began = time.process_time()
    found = HiddenNames(report_of(*scopes, lines=lines)).replace(report_of(*scopes, lines=lines))
    assert time.process_time() - began < 10
    assert found["journal"]["lines"][7] == "session-8 and agent:b:7, " * 8


def test_what_hangs_is_interrupted_and_may_undo_what_it_began(tmp_path, monkeypatch):
    """A command that waits for ever costs the time that it has, and leaves no process."""
    import scopekeeper.cli.main as cli

    mark = tmp_path / "undone"

    def hang():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        (tmp_path / "pid").write_text(str(os.getpid()))
        try:
            time.sleep(1000)
        finally:
            mark.write_text("yes")

    monkeypatch.setattr(cli, "main", hang)
    monkeypatch.setattr(sys, "argv", ["scopekeeper"])
    with pytest.raises(ScopekeeperError, match="no answer in 1 s"):
        captured.run(["ls"], 1.0)
    assert mark.exists()
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()


def test_a_command_is_called_in_a_child_and_its_streams_are_told_apart(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["scopekeeper"])
    printed = captured.run(["--version"], 30.0)
    assert (printed.status, printed.errors) == (0, b"")
    assert printed.output.startswith(b"scopekeeper ")
    wrong = captured.run(["ls", "--nonsense"], 30.0)
    assert (wrong.status, wrong.output) == (2, b"")
    assert b"--nonsense" in wrong.errors
    assert sys.argv == ["scopekeeper"]


def test_versions_are_those_of_this_machine():
    found = versions()
    assert found["kernel"].startswith(os.uname().release)
    assert found["python"].endswith(".".join(map(str, sys.version_info[:3])))
    assert found["libraries"]["click"]
    assert os.uname().nodename not in found["kernel"]


MOUNTS = r"""30 1 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate
31 1 0:27 / /a\040folder ro - tmpfs tmpfs rw,size=4k
32 30 0:28 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw,memory_recursiveprot
"""


def test_the_options_of_a_mount_are_those_of_the_uppermost(monkeypatch):
    monkeypatch.setattr("scopekeeper.kernel.proc.read", lambda _: MOUNTS)
    assert mounts.options_of("/sys/fs/cgroup") == "rw,relatime,memory_recursiveprot"
    assert mounts.options_of("/a folder") == "ro,rw,size=4k"
    assert mounts.options_of("/no/such/mount") == ""


@pytest.mark.parametrize(
    ("entry", "message", "priority"),
    [
        ({"MESSAGE": "it ended", "PRIORITY": "4"}, "it ended", "warning"),
        ({"MESSAGE": [104, 105, 255], "PRIORITY": "6"}, "hi\\xff", "info"),
        ({"MESSAGE": ["one", "two"]}, "two", ""),
        ({"MESSAGE": None, "PRIORITY": "12"}, "", ""),
    ],
)
def test_an_entry_of_the_journal_is_read(entry, message, priority):
    raw = {"__REALTIME_TIMESTAMP": "1000001", "SCOPEKEEPER_SESSION": "s", **entry}
    line = journal_lines.parsed(json.dumps(raw).encode())
    assert (line.at, line.message, line.priority) == (1_000_001, message, priority)
    assert line.fields == {"session": "s"}


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b'{"MESSAGE": "x"}', b"-- No entries --"])
def test_what_is_no_entry_is_left_out(raw):
    assert journal_lines.parsed(raw) is None
