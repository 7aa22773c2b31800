"""Each example in the help of a command does what it shows, on a stage that has what it names."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from scopekeeper.cli.examples import examples_of
from scopekeeper.cli.main import group
from tests.machine import (
    FOREVER,
    PROGRAM,
    ROOT,
    Scopekeeper,
    is_populated,
    record_of,
    scope_directories,
)
from tests.viewer import Viewer

from .manager import Units

pytestmark = pytest.mark.systemd

RUN = "4f1d09c7"
"""The run in the examples; each test puts a real one there."""
PATH_OWNED = "/tmp/agent-main"
_SAMPLES = Path(__file__).parents[1] / "clients"


_OF_CLIENTS = ("wrap", "unwrap", "openclaw", "setup", "status")
_STANDS_ALONE = (*_OF_CLIENTS, "install", "uninstall", "keeper", "doctor")
"""Commands that look at no session."""


def lives(session: str) -> bool:
    """Return whether a scope of a session has a process."""
    found = [each for each in scope_directories() if record_of(each).get("SESSION") == session]
    return any(map(is_populated, found))


def _examples() -> dict[str, list[str]]:
    """Return the examples of every command, also of those below it."""
    found: dict[str, list[str]] = {}
    context = click.Context(group, info_name="scopekeeper")
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        below = command.commands.values() if isinstance(command, click.Group) else ()
        found[name] = [line for each in (command, *below) for line in examples_of(each)]
    return found


EXAMPLES = _examples()


_OF_HOSTS = ("metrics", "report", "top")
SSH = """#!/bin/sh
while [ "$1" != -- ]; do shift; done
exec sh -c "$3"
"""
"""In place of ssh: each host of an example is this machine."""


class Stage:
    """The sessions, files and programs that the examples name."""

    def __init__(self, keeper: Scopekeeper, folder: Path, command: str) -> None:
        self._keeper, self._folder, self._command = keeper, folder, command
        self.home = folder / "home"
        path = f"{folder}/bin:{Path(PROGRAM).parent}:{os.environ['PATH']}"
        self._environment = {**os.environ, "PATH": path}
        if command in _OF_CLIENTS:
            self._environment["HOME"] = str(self.home)
        if command == "policy":
            (folder / "config.toml").write_text('[on_end.desktop]\ncommand = ["notify-send"]\n')
            self._environment["SCOPEKEEPER_CONFIG"] = str(folder)
        if command in _OF_HOSTS:
            (folder / "hosts.toml").write_text('[groups]\nbuild = ["build1", "build2"]\n')
            self._environment["SCOPEKEEPER_CONFIG"] = str(folder)
        files = {"cursor": ".cursor/mcp.json", "openclaw": ".openclaw/openclaw.json"}
        for client, name in files.items():
            (self.home / name).parent.mkdir(parents=True)
            shutil.copy(_SAMPLES / f"{client}.json", self.home / name)
        server = folder / "bin" / "mcp-server-time"
        server.parent.mkdir()
        server.write_text("#!/bin/sh\nexec cat\n")
        server.chmod(0o755)
        ssh = folder / "bin" / "ssh"
        ssh.write_text(SSH)
        ssh.chmod(0o755)
        Path(PATH_OWNED).mkdir(exist_ok=True)

    def call(self, line: str) -> subprocess.CompletedProcess[str]:
        """Run a line in a shell, without a terminal; what reads gets the line ``exit``."""
        return subprocess.run(
            ["bash", "-c", line], env=self._environment, input="exit\n",
            capture_output=True, text=True, timeout=60, cwd=self._folder,
        )  # fmt: skip

    def leave(self, line: str) -> None:
        """Run a line at a terminal until its keys are shown, and leave it by one."""
        viewer = Viewer(["bash", "-c", line], cols=120, **self._environment)
        try:
            viewer.shows("q quit")
            viewer.type("q")
            assert viewer.status() == 0, line
        finally:
            viewer.close()

    def must(self, line: str) -> str:
        """Run a line that has to succeed; return what it prints."""
        done = self.call(line)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        return done.stdout.strip()

    def prepare(self, line: str) -> str:
        """Make what an example names, if it is not there, and return it with a real run."""
        if self._command not in _STANDS_ALONE:
            self._start_sessions()
        if before := _BEFORE.get(line) or _BEFORE.get(self._command):
            self.must(before)
        if RUN not in line:
            return line
        lasts = "cat" if self._command in ("send", "attach") else "sleep 1"
        run = self.must(f"scopekeeper exec -d -s agent:main:main -- sh -c 'echo hello; {lasts}'")
        return line.replace(RUN, run)

    def _start_sessions(self) -> None:
        """Start a server of agent:main:main; and one of agent:spark:main without its owner."""
        if not lives("agent:main:main"):
            self._keeper.member("-s", "agent:main:main", "-n", "time", "--", *FOREVER)
        if not lives("agent:spark:main"):
            owner = self._keeper.popen(["sleep", "infinity"])
            lost = ("-s", "agent:spark:main", "-l", "nested", "--owner", str(owner.pid))
            self._keeper.member(*lost, "--", *FOREVER)
            owner.kill()
            owner.wait()


_BEFORE = {
    "label": (
        "scopekeeper run -s codex-257 -n time -- sleep 300 </dev/null >/dev/null 2>&1 & "
        "until scopekeeper ls codex-257 >/dev/null 2>&1; do sleep 0.1; done"
    ),
    "disown": f"scopekeeper own -s agent:main:main --keep-until-end {PATH_OWNED}",
    "uninstall": "scopekeeper install",
    "unwrap": "scopekeeper wrap --client cursor",
    "scopekeeper wrap --hooks --client gemini": "mkdir -p ~/.gemini",
    "scopekeeper wrap --check ~/.cursor/mcp.json": "scopekeeper wrap --client cursor",
}
"""What has to be done before the examples of a command, or before one."""


@pytest.fixture
def stage(
    keeper: Scopekeeper, units: Units, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Stage]:
    """Provide what the examples of a command name; afterwards nothing of it is there."""
    command = request.node.callspec.params["command"] if hasattr(request.node, "callspec") else ""
    units.write("my-gateway.service", "[Service]\nExecStart=sleep infinity\n")
    made = Stage(keeper, tmp_path, command)
    yield made
    if command in ("install", "uninstall", "openclaw", "setup"):
        subprocess.run([PROGRAM, "uninstall", "--force"], check=True, capture_output=True)
    if any(RUN in line for line in EXAMPLES.get(command, ())) or command == "exec":
        made.call(f"systemctl {'' if ROOT else '--user'} stop scopekeeper.service")
    if command in ("own", "disown"):
        made.call(f"scopekeeper disown {PATH_OWNED}")
    shutil.rmtree(PATH_OWNED, ignore_errors=True)


@pytest.mark.parametrize("command", EXAMPLES)
def test_each_example_goes(stage: Stage, command: str) -> None:
    assert EXAMPLES[command]
    for line in EXAMPLES[command]:
        shown = stage.prepare(line)
        if command == "watch":
            printed = stage.must(f"timeout --preserve-status -s INT 3 {shown}")
            assert "agent:main:main" in printed
            continue
        if command == "top":
            stage.leave(shown)
            continue
        done = stage.call(shown)
        statuses = _STATUSES.get(command, {}).get(line.split()[-1], (0,))
        assert done.returncode in statuses, (shown, done.stdout, done.stderr)
        assert "internal error" not in done.stderr
        if "--json" in line:
            assert json.loads(done.stdout)["version"] == 1
        _look(stage, line, done.stdout)


_STATUSES = {
    "doctor": {"doctor": (0, 1), "--json": (0, 1)},  # 1: a limit of this machine
    "status": {"status": (1,), "--json": (1,)},  # nothing is contained on the stage
    "openclaw": {"status": (0, 1), "--json": (0, 1)},  # 1: no gateway runs here
    "adopt": {"my-gateway.service": (0, 4)},  # 4: that gateway has left nothing here
    "ports": {"8931": (4,)},  # nothing listens there
}
"""Exit statuses other than 0 that an example may have, by its command and last word."""


def _look(stage: Stage, line: str, printed: str) -> None:
    """Look at what some of them have done."""
    if line.startswith("scopekeeper stop"):
        assert lives("agent:main:main") is ("--dry-run" in line), line
    elif line == "scopekeeper ls":
        assert "agent:main:main" in printed
    elif line.startswith("scopekeeper adopt -s agent:spark:main") and "--from" not in line:
        assert "now owned by" in printed
    elif " run " in line and "echo built" in line:
        assert printed == "built\n"
    elif line == f"scopekeeper disown {PATH_OWNED}":
        assert printed == f"{PATH_OWNED}: no longer owned\n"
    elif line == "scopekeeper openclaw install":
        assert "scopekeeper" in (stage.home / ".openclaw" / "openclaw.json").read_text()


def test_the_first_examples_go_one_after_the_other(stage: Stage) -> None:
    start, look, end, why, _ = examples_of(group)
    printed = stage.must(f"{start}\nuntil {look} | grep -q sleep; do sleep 0.1; done; {end}; {why}")
    assert "scopekeeper-demo-main.scope: gone after" in printed
    assert "was stopped" in printed
