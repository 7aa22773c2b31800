"""What `ls` shows of sessions that nobody named: the program and pid of the owner, and a title."""

import json
import os
import shlex
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import client_standin
from tests.machine import (
    FOREVER,
    PROGRAM,
    Scopekeeper,
    directory_of,
    eventually,
    is_alive,
    record_of,
    text_of,
)

from .test_listing import on_terminal

pytestmark = pytest.mark.systemd

TITLE = "Repair of the login page"


class Program:
    """A stand-in of some name, in a project of its own, that starts servers."""

    def __init__(self, home: Path, name: str, *interpreter: str, **variables: str) -> None:
        path = home / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!{sys.executable} -IS\n{Path(client_standin.__file__).read_text()}")
        path.chmod(0o755)
        self.project = home / "my project"
        self.project.mkdir(exist_ok=True)
        self._variables = variables
        kept = {k: v for k, v in os.environ.items() if k not in ("TMUX", "SHELL")}
        self.process = subprocess.Popen(
            [*interpreter, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=self.project, env=kept | {"HOME": str(home)},
        )  # fmt: skip

    @property
    def pid(self) -> int:
        return self.process.pid

    def server(self, *options: str) -> int:
        """Start a server, and return its pid once it runs."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        words = [PROGRAM, "run", *options, "--", *FOREVER]
        asked = {"words": words, "variables": self._variables, "own": False}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        pid = int(self.process.stdout.readline())
        eventually(lambda: "SCOPEKEEPER_MEMBER=" in text_of(f"/proc/{pid}/environ"))
        return pid


@pytest.fixture
def program(keeper: Scopekeeper, tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Return a function that starts a stand-in of that name."""
    started: list[Program] = []

    def start(name: str, *interpreter: str, **variables: str) -> Program:
        started.append(Program(tmp_path, name, *interpreter, **variables))
        return started[-1]

    yield start
    for each in started:
        with each.process:
            assert each.process.stdin is not None
            each.process.stdin.close()
    assert keeper


def session_of(pid: int) -> str:
    """Return the session in the record of a process's scope."""
    return record_of(os.path.dirname(directory_of(pid)))["SESSION"]


def title_of(keeper: Scopekeeper, session: str) -> object:
    (scope,) = keeper.scopes("-s", session)
    return scope["title"]


def test_a_session_without_an_id_has_the_name_and_pid_of_its_owner_and_its_folder(
    keeper: Scopekeeper, program: Callable[..., Program]
) -> None:
    cursor = program("cursor")
    servers = [cursor.server(), cursor.server()]
    name = f"cursor-{cursor.pid}"
    assert [session_of(pid) for pid in servers] == [name, name]
    header, row = keeper.call("ls", name).stdout.splitlines()
    assert header.split()[-2:] == ["OWNER", "TITLE"]
    assert row.startswith(f"{name} ")
    assert row.endswith(f"  cursor[{cursor.pid}]  my project")
    assert title_of(keeper, name) == "my project"
    narrow = on_terminal(f"ls {name}")
    assert "my project" in narrow[1]
    typed = subprocess.run(["sh", "-c", f"cd /tmp; {PROGRAM} stop {name}"], capture_output=True)
    assert typed.returncode == 0, typed.stderr
    assert not any(map(is_alive, servers))


def test_a_script_is_known_by_its_own_name_and_not_by_its_interpreters(
    keeper: Scopekeeper, program: Callable[..., Program]
) -> None:
    gemini = program("gemini.py", sys.executable, "-IS")
    eventually(lambda: text_of(f"/proc/{gemini.pid}/comm").startswith("python"))
    assert session_of(gemini.server()) == f"gemini-{gemini.pid}"
    assert f"  gemini[{gemini.pid}]  my project" in keeper.call("ls").stdout


@pytest.mark.parametrize("comm", ["tmux: server", "-rf", "a\nb", "日本語", "$(id)[0-9]"])
def test_whatever_a_program_calls_itself_its_session_can_be_typed(
    keeper: Scopekeeper, program: Callable[..., Program], comm: str
) -> None:
    one = program(comm)
    server = one.server()
    name = session_of(server)
    assert name.endswith(f"-{one.pid}")
    assert not name.startswith("-")
    assert shlex.quote(name) == name or not name.isascii()
    listed = keeper.call("ls").stdout
    assert len(listed.splitlines()) == 2
    done = keeper.call("stop", name)
    assert done.returncode == 0, done.stderr
    assert not is_alive(server)


def test_a_session_of_an_earlier_version_is_found_and_ended_beside_the_new_one(
    keeper: Scopekeeper, program: Callable[..., Program]
) -> None:
    cursor = program("cursor")
    earlier, later = f"pid-{cursor.pid}", f"cursor-{cursor.pid}"
    old, new, older = cursor.server("-s", earlier), cursor.server(), cursor.server("-s", earlier)
    assert title_of(keeper, earlier) == title_of(keeper, later) == "my project"
    assert keeper.call("stop", earlier).returncode == 0
    assert [is_alive(pid) for pid in (old, new, older)] == [False, True, False]
    old = cursor.server("-s", earlier)
    done = keeper.call("stop", "--owner", str(cursor.pid))
    assert done.returncode == 0, done.stderr
    assert not is_alive(old)
    assert not is_alive(new)


def test_the_title_of_a_clients_session_is_read_when_it_is_shown(
    keeper: Scopekeeper, program: Callable[..., Program], tmp_path: Path
) -> None:
    session_id = str(uuid.uuid4())
    claude = program("claude", CLAUDE_CODE_SESSION_ID=session_id, CLAUDECODE="1")
    server, name = claude.server(), f"claude:{session_id}"
    assert session_of(server) == name
    assert title_of(keeper, name) == "my project"
    folder = "".join(c if c.isalnum() and c.isascii() else "-" for c in str(claude.project))
    file = tmp_path / ".claude/projects" / folder / f"{session_id}.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text('{"type":"user","message":{"content":"please \\u001b[31m repair"}}\n')
    assert title_of(keeper, name) == "please \x1b[31m repair"
    assert keeper.call("ls").stdout.splitlines()[1].endswith("  please \\x1b[31m repair")
    with file.open("a") as more:
        more.write(json.dumps({"type": "ai-title", "aiTitle": TITLE}) + "\n")
    assert title_of(keeper, name) == TITLE
    assert keeper.call("ls").stdout.splitlines()[1].endswith(f"  {TITLE}")
    (row,) = (line for line in on_terminal("ls") if "claude:" in line)
    assert f"  {TITLE[:15]}" in row
    scope = os.path.dirname(directory_of(server))
    assert TITLE not in str([record_of(scope), record_of(directory_of(server))])
    report = keeper.call("bugreport", "-o", "-").stdout
    assert name in report
    assert TITLE not in report
    file.unlink()
    os.mkfifo(file)
    assert title_of(keeper, name) == "my project"
    claude.process.kill()
    claude.process.wait()
    eventually(lambda: title_of(keeper, name) is None)
    file.unlink()
    file.write_text(json.dumps({"type": "ai-title", "aiTitle": TITLE}) + "\n")
    assert title_of(keeper, name) == TITLE


def test_a_label_that_names_a_clients_session_has_its_title(
    keeper: Scopekeeper, program: Callable[..., Program], tmp_path: Path
) -> None:
    session_id = str(uuid.uuid4())
    codex = program("codex")
    codex.server()
    name = f"codex-{codex.pid}"
    index = tmp_path / ".codex/session_index.jsonl"
    index.parent.mkdir()
    index.write_text(json.dumps({"id": session_id, "thread_name": TITLE}) + "\n")
    for label, title in (
        (f"codex:{session_id}", TITLE),
        (f"codex:{uuid.uuid4()}", "my project"),
        ("mine", "my project"),
    ):
        assert keeper.call("label", name, "--as", label).returncode == 0
        assert title_of(keeper, name) == title
        assert keeper.call("ls").stdout.splitlines()[1].split()[0] == label
    named = program("gateway")
    named.server("-s", "shop")
    assert keeper.call("label", "shop", "--as", f"codex:{session_id}").returncode == 0
    assert title_of(keeper, "shop") == TITLE


def test_a_session_that_somebody_named_has_no_title_and_no_column(
    keeper: Scopekeeper, program: Callable[..., Program], session: str
) -> None:
    one = program("gateway")
    one.server("-s", session)
    assert title_of(keeper, session) is None
    header, row = keeper.call("ls").stdout.splitlines()
    assert header.split()[-1] == "OWNER"
    one.server()
    header, *rows = keeper.call("ls").stdout.splitlines()
    assert header.split()[-1] == "TITLE"
    (row,) = (row for row in rows if row.startswith(session))
    assert row.endswith("  -")
    ended = keeper.call("ls", "--all")
    assert ended.returncode == 0, ended.stderr
