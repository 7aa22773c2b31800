"""Whether the id that a client has set names the session of a launch: with real processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.clients import compile as compiler
from scopekeeper.clients import identity
from scopekeeper.clients.ignored import why
from scopekeeper.clients.table import DIGEST, TABLE
from scopekeeper.scope import names, record_parser, records

ID = "5e0c21ab-0000-4000-8000-000000000000"
CLAUDE = {"CLAUDE_CODE_SESSION_ID": ID, "CLAUDECODE": "1"}
COPILOT = {"COPILOT_AGENT_SESSION_ID": ID}
PROGRAM = """\
import os, subprocess, sys, time
# starts the program of the first word with the other words; "/": in a session of its own
first, *rest = sys.argv[1:] or [""]
if first:
    words = [first.lstrip("/"), *rest]
    if words[0] == "sh":
        words = ["/bin/sh", "-c", rest[0] if rest else "echo $$; cat; true"]
    child = subprocess.Popen(words, start_new_session=first[0] == "/")
else:
    print(os.getpid(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Start programs of these names, each by the one before; return the pid of the last."""
    for name in ("claude", "copilot", "gemini", "gateway"):
        path = tmp_path / name
        path.write_text(f"#!{sys.executable} -IS\n{PROGRAM}")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    running = []

    def start(*names, **variables):
        process = subprocess.Popen(
            names, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | variables
        )
        running.append(process)
        return process.stdout.readline().decode().strip()

    yield start
    for process in running:
        with process:
            process.stdin.close()


def find(starter, variables=CLAUDE, table=TABLE):
    raw = {name.encode(): value.encode() for name, value in variables.items()}
    return identity.find(table, raw, starter)


def ignored(starter, variables=CLAUDE):
    found = find(starter, variables)
    assert (found.session, found.lane, found.owner) == ("", "", "")
    return found.ignored


def in_scope(session, lane="main", variables=CLAUDE):
    raw = {name.encode(): value.encode() for name, value in variables.items()}
    return identity.find(TABLE, raw, "1", f"/c/{names.unit_name(session, lane)}")


def test_what_has_lost_its_client_is_of_the_session_of_its_scope():
    for lane in ("main", "cron"):
        found = in_scope(f"claude:{ID}", lane)
        assert (found.session, found.lane, found.owner) == (f"claude:{ID}", "main", "")
        assert found.ignored == ""
    both = in_scope(f"copilot:{ID}", variables=CLAUDE | COPILOT)
    assert both.session == f"copilot:{ID}"


@pytest.mark.parametrize(
    ("session", "variables"),
    [
        ("claude:another", CLAUDE),
        (ID, CLAUDE),
        (f"codex:{ID}", CLAUDE),
        (f"claude:{ID}", {"CLAUDE_CODE_SESSION_ID": ID}),  # incomplete
        ("claude:a b", CLAUDE | {"CLAUDE_CODE_SESSION_ID": "a b"}),
        (f"claude:{'x-' * 64}", CLAUDE | {"CLAUDE_CODE_SESSION_ID": "x-" * 64}),  # a cut name
    ],
)
def test_a_scope_of_another_session_proves_nothing(session, variables):
    found = in_scope(session, variables=variables)
    assert (found.session, found.ignored) == ("", "CLAUDE_CODE_SESSION_ID inherited")
    assert ignored("1", CLAUDE) == "CLAUDE_CODE_SESSION_ID inherited"


def test_another_client_above_counts_more_than_the_scope(started):
    raw = {name.encode(): value.encode() for name, value in CLAUDE.items()}
    scope = f"/c/{names.unit_name(f'claude:{ID}', 'main')}"
    found = identity.find(TABLE, raw, started("gemini"), scope)
    assert (found.session, found.ignored) == ("", "CLAUDE_CODE_SESSION_ID inherited")


def test_what_a_client_starts_is_of_its_session(started):
    found = find(started("claude"))
    assert (found.session, found.lane, found.ignored) == (f"claude:{ID}", "main", "")


def test_a_client_by_the_name_of_its_script(started, tmp_path):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "copilot").rename(tmp_path / "bundle/copilot.js")
    pid = started(str(tmp_path / "bundle/copilot.js"))
    assert find(pid, COPILOT).session == f"copilot:{ID}"


def test_a_client_by_the_module_that_python_runs(started, tmp_path, monkeypatch):
    package = tmp_path / "hermes_cli"
    package.mkdir()
    (package / "main.py").write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)
    pid = started(sys.executable, "-m", "hermes_cli.main")
    assert find(pid, {"HERMES_SESSION_ID": ID}).session == f"hermes:{ID}"


def test_what_a_proxy_of_the_client_starts_is_of_its_session(started):
    assert find(started("claude", "gateway")).session == f"claude:{ID}"


def test_so_is_what_the_shell_of_a_command_starts(started):
    assert find(started("claude", "/sh")).session == f"claude:{ID}"


def test_what_a_program_in_that_shell_starts_is_not(started):
    assert ignored(started("claude", "/sh", "gateway; true")) == "CLAUDE_CODE_SESSION_ID inherited"


def test_a_gateway_in_a_session_of_its_own_is_not(started):
    assert ignored(started("claude", "/gateway")) == "CLAUDE_CODE_SESSION_ID inherited"


def test_nor_is_what_another_client_starts(started):
    assert ignored(started("claude", "gemini")) == "CLAUDE_CODE_SESSION_ID inherited"
    assert ignored(started("claude", "copilot")) == "CLAUDE_CODE_SESSION_ID inherited"


def test_nor_is_what_the_same_client_starts_that_has_inherited_the_id(started):
    assert ignored(started("claude", **CLAUDE)) == "CLAUDE_CODE_SESSION_ID inherited"
    other = CLAUDE | {"CLAUDE_CODE_SESSION_ID": "another"}
    assert find(started("claude", **other)).session == f"claude:{ID}"


def test_of_two_clients_the_nearer_names_it(started):
    pid = started("claude", "/copilot")
    assert find(pid, CLAUDE | {"COPILOT_AGENT_SESSION_ID": "7"}).session == "copilot:7"


def test_without_a_client_above_it_the_id_is_ignored(started):
    assert ignored(started("gateway")) == "CLAUDE_CODE_SESSION_ID inherited"
    assert ignored("1") == "CLAUDE_CODE_SESSION_ID inherited"


@pytest.mark.parametrize("pid", ["", "0", "self", "../1", "99999999", "9" * 5000])
def test_a_starter_that_is_none_ends_nothing(pid):
    assert ignored(pid) == "CLAUDE_CODE_SESSION_ID inherited"


def test_what_is_set_beside_it_has_to_be_set(started):
    pid = started("claude")
    assert ignored(pid, {"CLAUDE_CODE_SESSION_ID": ID}) == "CLAUDE_CODE_SESSION_ID incomplete"


@pytest.mark.parametrize(
    "value", ["a b", "a/b", "a\nb", "ä", "x" * 129, "-", "\x1b[31m", ";reboot"]
)
def test_a_value_that_is_no_id_is_ignored(started, value):
    pid = started("claude")
    assert ignored(pid, CLAUDE | {"CLAUDE_CODE_SESSION_ID": value}).endswith(" invalid")


@given(st.binary(max_size=300).filter(lambda raw: b"\0" not in raw))
def test_only_plain_ids_are_taken(value):
    if identity.is_id(value):
        assert 0 < len(value) <= identity.ID_MAX
        assert set(value.decode("ascii")) <= set(
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
        )


def test_a_client_is_known_by_its_program(started):
    assert identity.is_client(started("gemini"))
    assert not identity.is_client(started("gateway"))
    assert not identity.is_client(started("gemini", "gateway"))


@pytest.mark.parametrize("pid", ["", "0", "1", "self", "../1", "99999999"])
def test_a_process_that_is_gone_is_no_client(pid):
    assert not identity.is_client(pid)


def test_an_empty_variable_is_not_set():
    assert find("1", {"CLAUDE_CODE_SESSION_ID": ""}).ignored == ""


def test_an_option_and_our_own_variable_come_first(started):
    pid, raw = started("claude"), {b"CLAUDE_CODE_SESSION_ID": b"7", b"CLAUDECODE": b"1"}

    def of(options, environment):
        return identity.of_launch(options, environment, pid, [], configured=False, scope="").session

    assert of({}, raw) == "claude:7"
    assert of({"session": "s"}, raw) == ""
    assert of({}, raw | {b"SCOPEKEEPER_SESSION": b"s"}) == ""
    assert of({"owner": str(os.getpid())}, raw) == ""


def test_the_client_owns_what_its_proxy_starts_if_the_table_says_so(started):
    table = [(*row[:6], "client") for row in TABLE]
    found = find(started("claude", "gateway"), table=table)
    assert Path("/proc", found.owner, "comm").read_text() == "claude\n"
    assert find(started("claude", "gateway")).owner == ""


def note(text):
    fields = {"NAME": "x", "PID": "7", "START": "8", "IGNORED": text}
    return record_parser.member(records.dumps(fields), "m-x.12345678").ignored


def test_the_note_in_a_record_comes_back_and_has_a_sentence():
    for reason in records.IGNORED:
        assert note(f"MY_ID {reason}") == f"MY_ID {reason}"
        assert why(f"MY_ID {reason}").startswith("MY_ID is ignored: ")
    assert why("CLAUDE_CODE_SESSION_ID incomplete") == (
        "CLAUDE_CODE_SESSION_ID is ignored: CLAUDECODE is missing, which its client sets beside it"
    )
    assert note("") == ""


@pytest.mark.parametrize("text", ["MY_ID", "MY_ID other", "MY ID invalid", "x" * 129, "É invalid"])
def test_another_note_is_damage(text):
    with pytest.raises(records.RecordError, match="IGNORED"):
        note(text)


def test_the_compiled_table_is_that_of_the_file():
    assert compiler.module() == (compiler.FOLDER / "table.py").read_text()
    assert f'"{DIGEST}"' in compiler.module()
    assert compiler.read([]) == TABLE
