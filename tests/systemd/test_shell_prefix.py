"""scopekeeper-prefix: what a client starts through it is in its session, and hooks are not."""

import json
import os
import shlex
import signal
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import client_standin
from tests.machine import (
    FOREVER,
    PREFIX,
    PROGRAM,
    Scopekeeper,
    cgroup_of,
    children_of,
    directory_of,
    environment_of,
    eventually,
    is_alive,
    leaves,
    record_of,
    scope_directories,
    state_of,
    text_of,
)

pytestmark = pytest.mark.systemd

SNAPSHOT = "source /dev/null 2>/dev/null || true && shopt -u extglob 2>/dev/null || true"


class ClaudeCode:
    """A stand-in that starts servers, commands and hooks as Claude Code 2.1.332 does."""

    def __init__(self, keeper: Scopekeeper, folder: Path, name: str = "claude") -> None:
        self.id = str(uuid.uuid4())
        self.folder = folder
        program = folder / name
        if not program.exists():
            source = Path(client_standin.__file__).read_text()
            program.write_text(f"#!{sys.executable} -IS\n{source}")
            program.chmod(0o755)
        self.errors = folder / f"{self.id}.stderr"
        with self.errors.open("wb") as errors:
            self.process = keeper.popen(
                [program], stdin=-1, stdout=-1, stderr=errors, text=True,
                env={k: v for k, v in os.environ.items() if k not in ("TMUX", "SHELL")},
            )  # fmt: skip

    @property
    def session(self) -> str:
        return f"claude:{self.id}"

    def _start(self, words: list[str], *, own: bool, output: str = "", more: dict[str, str]) -> int:
        variables = {"CLAUDECODE": "1", "CLAUDE_CODE_SESSION_ID": self.id, **more}
        asked = {"words": words, "variables": variables, "own": own, "output": output}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def server(self, line: str, **more: str) -> int:
        """Start a server: a child of the client, in its session, with the line as one word."""
        return self._start([PREFIX, line], own=False, more=more)

    def _of_a_turn(self) -> dict[str, str]:
        return {"CLAUDE_CODE_CHILD_SESSION": "1", "CLAUDE_PID": "PID", "SHELL": "/bin/bash"}

    def command(self, command: str, output: Path, **more: str) -> int:
        """Run a command of the Bash tool, with its output in a file."""
        line = f"{SNAPSHOT} && eval {shlex.quote(command)} < /dev/null && pwd -P >| /dev/null"
        words = ["/bin/bash", "-c", shlex.join([PREFIX, line])]
        return self._start(words, own=True, output=str(output), more=self._of_a_turn() | more)

    def hook(self, command: str, shell: str = "/bin/sh", **more: str) -> int:
        words = [shell, "-c", shlex.join([PREFIX, command])]
        return self._start(words, own=True, more=self._of_a_turn() | more)

    def close(self) -> None:
        with self.process:
            self.process.stdin.close()


@pytest.fixture
def client(keeper: Scopekeeper, tmp_path: Path) -> Iterator[ClaudeCode]:
    made = ClaudeCode(keeper, tmp_path)
    yield made
    made.close()


def launched(pid: int) -> int:
    """Wait until a process runs a program of its own choice; return the pid."""
    eventually(lambda: state_of(pid) and text_of(f"/proc/{pid}/comm").strip() == "sleep")
    return pid


def scope_of(pid: int) -> dict[str, str]:
    return record_of(os.path.dirname(directory_of(pid)))


def test_a_server_is_a_member_of_the_clients_session(client: ClaudeCode) -> None:
    pid = launched(client.server(shlex.join(["/usr/bin/env", "A=b c", *FOREVER])))
    assert environment_of(pid)["A"] == "b c"
    member = record_of(directory_of(pid))
    assert scope_of(pid)["SESSION"] == client.session
    assert (member["KIND"], member["NAME"]) == ("mcp", "env")
    assert (member["OWNER_PID"], member["PID"]) == (str(client.process.pid), str(pid))
    assert children_of(client.process.pid) == [pid], "no shell stays between"
    assert client.errors.read_text() == ""


def test_a_command_is_in_the_same_scope_and_a_hook_in_none(
    client: ClaudeCode, tmp_path: Path
) -> None:
    server = launched(client.server("sleep infinity"))
    command = client.command("echo $$; exec sleep infinity", tmp_path / "output")
    launched(command)
    assert os.path.dirname(directory_of(command)) == os.path.dirname(directory_of(server))
    member = record_of(directory_of(command))
    assert (member["KIND"], member["NAME"]) == ("exec", "echo")
    assert text_of(tmp_path / "output") == f"{command}\n", "the client's own child"
    assert os.getsid(command) == command
    for shell in ("/bin/sh", "/bin/bash"):  # the second one becomes its last command
        top = client.hook("exec sleep infinity", shell=shell)
        hook = eventually(lambda top=top: next(
            (pid for pid in (top, *children_of(top))
             if text_of(f"/proc/{pid}/comm").strip() == "sleep"), 0))  # fmt: skip
        assert cgroup_of(hook) == cgroup_of(client.process.pid)
        assert "SCOPEKEEPER_MEMBER" not in environment_of(hook)
        os.kill(top, signal.SIGKILL)
        if hook != top:
            os.kill(hook, signal.SIGKILL)
    assert client.errors.read_text() == ""


def test_what_the_client_leaves_ends_with_its_session(
    keeper: Scopekeeper, client: ClaudeCode, tmp_path: Path
) -> None:
    launched(client.server("sleep infinity"))
    client.command(f"setsid sleep infinity & echo $! > {tmp_path}/pid", tmp_path / "output")
    daemon = int(eventually(lambda: text_of(tmp_path / "pid")))
    assert scope_of(daemon)["SESSION"] == client.session
    assert keeper.call("stop", "-s", client.session).returncode == 0
    assert not is_alive(daemon)
    assert is_alive(client.process.pid)


def test_signals_reach_the_server_itself(client: ClaudeCode) -> None:
    pid = launched(client.server("sleep infinity"))
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: state_of(pid) in ("", "Z"))


def test_a_wrapped_server_is_one_member_of_one_scope(
    keeper: Scopekeeper, client: ClaudeCode
) -> None:
    pid = launched(client.server(shlex.join([PROGRAM, "run", "-n", "time", "--", *FOREVER])))
    assert scope_of(pid)["SESSION"] == client.session
    assert record_of(directory_of(pid))["NAME"] == "time"
    (scope,) = scope_directories()
    assert len(leaves(scope)) == 1
    listed = keeper.call("ls", "-s", client.session, "--members").stdout
    assert "went on" not in listed
    assert listed.count(f"pid {pid}") == 1


def test_two_servers_of_one_program_live_side_by_side_whatever_the_rules(
    client: ClaudeCode, tmp_path: Path
) -> None:
    """`replace` ends an earlier server of the same name: these have only the name of a program."""
    (tmp_path / "config.toml").write_text("[lanes.main]\nreplace = true\n")
    rules = {"SCOPEKEEPER_CONFIG": str(tmp_path)}
    pids = [launched(client.server("sleep infinity", **rules)) for _ in range(2)]
    assert all(map(is_alive, pids))
    assert len({directory_of(pid) for pid in pids}) == 2


def test_the_servers_and_commands_of_a_client_in_a_client_are_contained(
    keeper: Scopekeeper, client: ClaudeCode, tmp_path: Path
) -> None:
    """The inner one has inherited all variables of a command of the outer one."""
    folder = tmp_path / "inner"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in client._of_a_turn().items():
            patch.setenv(name, str(client.process.pid) if value == "PID" else value)
        patch.setenv("CLAUDE_CODE_SESSION_ID", client.id)
        inner = ClaudeCode(keeper, folder)
    try:
        server = launched(inner.server("sleep infinity"))
        command = launched(inner.command("exec sleep infinity", tmp_path / "output"))
        assert {scope_of(server)["SESSION"], scope_of(command)["SESSION"]} == {inner.session}
    finally:
        inner.close()


def test_where_nothing_can_be_contained_everything_runs(client: ClaudeCode, tmp_path: Path) -> None:
    nowhere = {"SCOPEKEEPER_PLACEMENT": "cgroup:/sys/fs/cgroup/nowhere"}
    server = launched(client.server("sleep infinity", **nowhere))
    assert cgroup_of(server) == cgroup_of(client.process.pid)
    assert "warning: running uncontained: " in client.errors.read_text()
    before = client.errors.read_text()
    client.command("echo ran", tmp_path / "output", **nowhere)
    eventually(lambda: text_of(tmp_path / "output") == "ran\n")
    assert client.errors.read_text() == before
    assert scope_directories() == []


def test_a_warning_does_not_get_into_the_output_of_a_command(
    client: ClaudeCode, tmp_path: Path
) -> None:
    """A server's stderr is the client's log; that of a command goes to the agent."""
    (tmp_path / "config.toml").write_text("[lanes.main]\nno_such_rule = true\n")
    rules = {"SCOPEKEEPER_CONFIG": str(tmp_path)}
    launched(client.server("sleep infinity", **rules))
    warned = client.errors.read_text()
    assert "no_such_rule" in warned
    command = client.command("exec sleep infinity", tmp_path / "output", **rules)
    launched(command)
    assert record_of(directory_of(command))["KIND"] == "exec"
    asked = rules | {"SCOPEKEEPER_IF_UNAVAILABLE": "warn"}
    assert client.errors.read_text() == warned
    launched(client.command("exec sleep infinity", tmp_path / "output", **asked))
    assert client.errors.read_text().count("no_such_rule") == 2


def test_a_shell_of_ours_and_the_prefix_make_one_member(client: ClaudeCode, tmp_path: Path) -> None:
    """CLAUDE_CODE_SHELL and CLAUDE_CODE_SHELL_PREFIX together."""
    shell = Path(PREFIX).with_name("scopekeeper-shell")
    line = f"{SNAPSHOT} && eval 'exec sleep infinity' < /dev/null && pwd -P >| /dev/null"
    words = [str(shell), "-c", shlex.join([PREFIX, line])]
    more = client._of_a_turn() | {"SHELL": str(shell), "SCOPEKEEPER_SHELL": "/bin/bash"}
    pid = launched(client._start(words, own=True, output=str(tmp_path / "output"), more=more))
    (scope,) = scope_directories()
    assert len(leaves(scope)) == 1
    assert record_of(directory_of(pid))["KIND"] == "exec"


def test_what_the_rules_refuse_for_lack_of_memory_does_not_run(
    client: ClaudeCode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "config.toml").write_text('[lanes.default]\nmin_available = "8000T"\n')
    output = tmp_path / "output"
    config = {"SCOPEKEEPER_CONFIG": str(rules)}
    for started in (
        client.command("echo here", output, **config),
        client.server("echo here", **config),
    ):
        eventually(lambda pid=started: state_of(pid) in ("", "Z"))
    assert "here" not in text_of(output)
    assert client.errors.read_text().count("the machine is short of memory for ") == 2
    assert not scope_directories()
