"""Titles of sessions: from the files of Claude Code and Codex, and from folders of owners."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scopekeeper.clients import titles
from scopekeeper.clients.claude_code.title import STORE as CLAUDE
from scopekeeper.clients.codex.title import STORE as CODEX
from scopekeeper.clients.session_files import TITLE_MAX, one_line
from scopekeeper.safe_text import safe
from scopekeeper.scope.model import Liveness, Member, Owner, OwnerState, Scope
from tests.unit import strange

ID = "5e0c21ab-0000-4000-8000-000000000000"
CODEX_ID = "019bce9f-0a40-79e2-8351-8818e8487fb6"
"""Made on 2026-01-18 at 01:01:28 UTC."""
PROJECT = "/home/u/my.project_1"
PATIENCE = 20
WAITS = [sys.executable, "-ISc", "import sys; sys.stdout.write('.'); sys.stdout.flush(); input()"]


@pytest.fixture(autouse=True)
def _no_hanging():
    """Fail where something is waited for."""

    def late(*_):
        pytest.fail("it waits")  # an OSError would be a file without a title

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(PATIENCE)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def claude_file(home, folder="-home-u-my-project-1", session_id=ID):
    path = home / ".claude/projects" / folder / f"{session_id}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")


def claude(home, *directories, **environment):
    return CLAUDE.title(ID, str(home), environment, list(directories))


def codex(home, session_id=CODEX_ID):
    return CODEX.title(session_id, str(home), {}, [])


def prompt(text, **more):
    return {"type": "user", "message": {"role": "user", "content": text}, "sessionId": ID, **more}


CUSTOM = {"type": "custom-title", "customTitle": "The login", "sessionId": ID}
AI = {"type": "ai-title", "aiTitle": "Repair of the login page", "sessionId": ID}
SUMMARY = {"type": "summary", "summary": "Login page repaired", "leafUuid": "x"}
NOISE = {"type": "assistant", "message": {"content": [{"type": "text", "text": "y" * 4000}]}}


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([prompt("repair the\n login  page")], "repair the login page"),
        ([SUMMARY, prompt("repair")], "Login page repaired"),
        ([prompt("repair"), AI, SUMMARY], "Repair of the login page"),
        ([AI, CUSTOM, AI], "The login"),
        ([CUSTOM, CUSTOM | {"customTitle": "Another"}], "Another"),
        ([CUSTOM, CUSTOM | {"customTitle": " "}, CUSTOM | {"customTitle": 7}], "The login"),
        ([prompt("<command-name>/clear</command-name>"), prompt("repair")], "repair"),
        ([prompt("x", isMeta=True), prompt("x", isSidechain=True), prompt("repair")], "repair"),
        ([prompt([{"type": "image"}, {"type": "text", "text": "this one"}])], "this one"),
        ([prompt([{"type": "tool_result", "content": "no"}]), prompt("repair")], "repair"),
        ([prompt(f'"custom-title" "customTitle" {ID}')], f'"custom-title" "customTitle" {ID}'),
        ([NOISE] * 200 + [CUSTOM] + [NOISE] * 3, "The login"),
        ([CUSTOM] + [NOISE] * 200, "The login"),
        ([CUSTOM] + [NOISE] * 200 + [CUSTOM | {"customTitle": "Another"}], "Another"),
        ([], ""),
        ([NOISE], ""),
    ],
)
def test_claude_code_names_a_session_by_a_title_a_summary_or_the_first_prompt(
    tmp_path, lines, found
):
    write(claude_file(tmp_path), *lines)
    assert claude(tmp_path, PROJECT) == found


def test_its_file_is_found_by_the_id_in_whatever_folder_it_is(tmp_path):
    for number in range(50):
        write(claude_file(tmp_path, f"-p{number}", str(uuid.uuid4())), prompt("no"))
    write(claude_file(tmp_path, "-another"), CUSTOM)
    assert claude(tmp_path) == claude(tmp_path, PROJECT) == "The login"
    (tmp_path / ".claude").rename(tmp_path / "elsewhere")
    assert claude(tmp_path) == ""
    assert claude(tmp_path, CLAUDE_CONFIG_DIR=str(tmp_path / "elsewhere")) == "The login"
    assert claude(tmp_path / "none", CLAUDE_CONFIG_DIR="elsewhere") == ""


def rollout(home, *lines, day="2026/01/18", session_id=CODEX_ID):
    write(home / f".codex/sessions/{day}/rollout-2026-01-18T02-01-28-{session_id}.jsonl", *lines)


META = {"type": "session_meta", "payload": {"id": CODEX_ID, "base_instructions": "z" * 30000}}
CONTEXT = {"type": "response_item", "payload": {"type": "message", "role": "user", "content": [
    {"type": "input_text", "text": "<environment_context>"}]}}  # fmt: skip
ITEM = {"type": "response_item", "payload": {"type": "message", "role": "user", "content": [
    {"type": "input_text", "text": "tidy up"}]}}  # fmt: skip
EVENT = {"type": "event_msg", "payload": {"type": "user_message", "message": "tidy up, please"}}


@pytest.mark.parametrize("day", ["2026/01/17", "2026/01/18", "2026/01/19"])
def test_codex_names_a_session_by_its_first_prompt(tmp_path, day):
    rollout(tmp_path, META, CONTEXT, EVENT, ITEM, day=day)
    assert codex(tmp_path) == "tidy up, please"
    rollout(tmp_path, META, CONTEXT, ITEM, EVENT, day=day)
    assert codex(tmp_path) == "tidy up"


def test_or_by_the_newest_name_in_its_index(tmp_path):
    rollout(tmp_path, META, EVENT)
    index = tmp_path / ".codex/session_index.jsonl"
    other = {"id": ID, "thread_name": "another's", "updated_at": "x"}
    write(
        index, {"id": CODEX_ID, "thread_name": "old"}, {"id": CODEX_ID, "thread_name": "new"}, other
    )
    assert codex(tmp_path) == "new"
    write(index, other)
    assert codex(tmp_path) == "tidy up, please"


@pytest.mark.parametrize("session_id", [
    "x", ID, "ffffffff-ffff-7fff-ffff-ffffffffffff", "e677d21f-dbd8-7000-8000-000000000000",
    "-" * 14 + "7" + "-" * 21,
])  # fmt: skip
def test_an_id_without_a_time_has_no_rollout(tmp_path, session_id):
    rollout(tmp_path, EVENT, session_id=session_id)
    assert codex(tmp_path, session_id) == ""


@pytest.mark.parametrize("kind", strange.KINDS)
def test_what_is_no_regular_file_of_this_user_gives_no_title(tmp_path, kind):
    strange.put(claude_file(tmp_path), kind)
    assert claude(tmp_path, PROJECT) == ""
    index = tmp_path / ".codex/session_index.jsonl"
    index.parent.mkdir()
    strange.put(index, kind)
    assert codex(tmp_path) == ""


@pytest.mark.parametrize("content", [
    b"\xff\xfe\x00", b"[" * 100_000, b'{"customTitle":' * 9000, b"\0" * 300_000, b"1" * 300_000,
    b'"custom-title" "customTitle"', b'["custom-title", "customTitle", "user"]\n',
    b'{"type":"custom-title","customTitle":"\xff"}\n', b'{"type":"custom-title","customTitle":{}}',
    b'{"type":"user","message":[]}\n{"type":"user","message":{"content":{}}}\n{"type":"user"}',
    b'{"type":"user","message":{"content":[[],{"type":"text"},{"type":"text","text":1}]}}\n',
])  # fmt: skip
def test_a_damaged_file_gives_no_title(tmp_path, content):
    path = claude_file(tmp_path)
    path.write_bytes(content)
    assert claude(tmp_path, PROJECT) == ""
    write(path, CUSTOM)
    with path.open("ab") as file:
        file.write(content)
    assert claude(tmp_path, PROJECT) == "The login"


LINES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([CUSTOM, AI, SUMMARY, prompt("p"), META, EVENT, NOISE]).map(
        lambda line: json.dumps(line).encode()
    ),
    st.recursive(st.none() | st.booleans() | st.text(max_size=5) | st.integers(), lambda inner:
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
            ["type", "message", "content", "payload", "text", "user", "customTitle", "role"]),
            inner | st.sampled_from(["user", "custom-title", "text", "event_msg"]), max_size=4),
        max_leaves=8).map(lambda value: json.dumps(value).encode()),
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(LINES, max_size=8))
def test_any_file_gives_a_title_of_one_short_line_or_none(tmp_path_factory, lines):
    home = tmp_path_factory.mktemp("home")
    claude_file(home).write_bytes(b"\n".join(lines))
    rollout(home)
    next((home / ".codex/sessions").rglob("*.jsonl")).write_bytes(b"\n".join(lines))
    for title in (claude(home, PROJECT), codex(home)):
        assert len(title) <= TITLE_MAX
        assert title == " ".join(title.split())


@given(st.text(max_size=300))
@example("x" * 500)
@example("\ud800 \udcff\x1b[31m\u202e")
def test_a_title_can_be_printed_and_sent_as_json(text):
    title = one_line(text)
    assert len(title) <= TITLE_MAX
    assert "\n" not in safe(title)
    json.dumps(title).encode()
    title.encode("utf-8")


def test_a_huge_file_takes_no_longer_than_a_small_one(tmp_path):
    path = claude_file(tmp_path)
    write(path, CUSTOM)
    with path.open("ab") as file:
        file.truncate(strange.HUGE)
    began = time.monotonic()
    assert claude(tmp_path, PROJECT) == "The login"
    assert time.monotonic() - began < 1


# -- of scopes ---------------------------------------------------------------------------------


@pytest.fixture
def owner(tmp_path):
    """Start a process in a folder, with a home of its own; return its pid."""
    started = []

    def start(folder):
        folder.mkdir(parents=True, exist_ok=True)
        started.append(subprocess.Popen(
            WAITS, cwd=folder, env={"HOME": str(tmp_path)}, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ))  # fmt: skip
        assert started[-1].stdout.read(1) == b"."
        return started[-1].pid

    yield start
    for process in started:
        process.communicate(b"\n")


def scope_of(session, pid=None, liveness=Liveness.ALIVE, **more):
    state = OwnerState(Owner(pid=pid, start_time=1), liveness, "")
    member = Member("x", "00000000", "/x/m", "/x/m", pids=(1,), owner_state=state)
    return Scope("u", "/x", "/x", os.geteuid(), session, "main", members=(member,), **more)


def title_of(*arguments, **more):
    return titles.read([scope_of(*arguments, **more)]).get("/x", "")


def test_a_session_of_a_client_has_the_title_in_its_files(owner, tmp_path):
    folder = tmp_path / "proj"
    pid = owner(folder)
    assert title_of(f"claude:{ID}", pid) == "proj"
    write(claude_file(tmp_path, str(folder).replace("/", "-").replace("_", "-")), CUSTOM)
    assert title_of(f"claude:{ID}", pid) == "The login"
    assert title_of(f"claude:{uuid.uuid4()}", pid) == "proj"
    assert title_of("claude:../../x", pid) == ""


@pytest.mark.parametrize("client", ["copilot", "hermes", "codex"])
def test_one_of_a_client_without_such_files_has_the_folder_of_its_owner(client, owner, tmp_path):
    assert title_of(f"{client}:{ID}", owner(tmp_path / "proj")) == "proj"


def test_one_that_is_named_after_its_owner_has_the_folder_of_that(owner, tmp_path):
    pid = owner(tmp_path / "a project")
    assert title_of(f"cursor-{pid}", pid) == "a project"
    assert title_of(f"pid-{pid}", pid) == "a project"
    assert title_of(f"cursor-{pid}", pid, Liveness.UNKNOWN) == ""
    assert title_of(f"cursor-{pid}", os.getpid()) == ""
    assert title_of(f"cursor-{pid}", pid, elsewhere=True) == ""


def test_one_that_a_gateway_names_has_none(owner, tmp_path):
    pid = owner(tmp_path / "proj")
    for session in ("agent:main:main", "work", f"agent:{ID}", "demo:one"):
        assert title_of(session, pid) == ""


def test_a_home_is_a_tilde_and_the_root_is_none(owner, tmp_path, monkeypatch):
    monkeypatch.setattr(titles, "home_of", lambda _: f"{tmp_path}/")
    pid = owner(tmp_path)
    assert title_of(f"x-{pid}", pid) == "~"
    root = owner(Path("/"))
    assert title_of(f"x-{root}", root) == ""


def test_a_folder_that_is_gone_keeps_its_name(owner, tmp_path):
    pid = owner(tmp_path / "proj")
    (tmp_path / "proj").rmdir()
    assert title_of(f"x-{pid}", pid) == "proj"


@pytest.mark.root
def test_what_another_users_process_says_is_not_read(owner, tmp_path):
    pid = owner(tmp_path / "proj")
    nobody = subprocess.Popen(WAITS, cwd="/tmp", user=65534, stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE)  # fmt: skip
    assert nobody.stdout.read(1) == b"."
    assert title_of(f"x-{pid}", pid) == "proj"
    assert title_of(f"x-{nobody.pid}", nobody.pid) == ""
    nobody.communicate(b"\n")
