"""``status`` counts what runs beside the client whose it is, however the client was started."""

import json
import shlex
import sys
import uuid
from pathlib import Path

import pytest

from tests.machine import FOREVER, PROGRAM, Scopekeeper, eventually, text_of

from .manager import Units
from .test_client_sessions import session_of

pytestmark = pytest.mark.systemd

CLIENT = """\
import os, subprocess, sys
server = subprocess.Popen(sys.argv[2:], env=os.environ | {names!r}, stdin=subprocess.PIPE)
with open(sys.argv[1], "w") as file:
    file.write(f"{{server.pid}}\\n")
server.wait()
"""
SERVER = (PROGRAM, "run", "--", *FOREVER)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def client(folder: Path, name: str, names: dict[str, str]) -> tuple[str, ...]:
    """Write a client that starts one server; return its command line."""
    program = folder / name
    program.write_text(f"#!{sys.executable} -IS\n{CLIENT.format(names=names)}")
    program.chmod(0o755)
    return (str(program), str(folder / "pid"), *SERVER)


def pid_in(folder: Path) -> int:
    return int(eventually(lambda: text_of(folder / "pid")))


def counted(keeper: Scopekeeper) -> dict[str, int]:
    """Return the processes that ``status`` counts, by client."""
    document = json.loads(keeper.call("status", "--json").stdout)
    counts = {row["what"]: row["processes"] for row in document["found"] if row["processes"]}
    assert document["runs"]["processes"] == sum(counts.values())
    return {"others": 0, **counts}


@pytest.mark.parametrize("delegated", [False, True])
def test_a_client_that_is_a_service(
    keeper: Scopekeeper, units: Units, home: Path, delegated: bool
) -> None:
    own = str(uuid.uuid4())
    command = client(home, "claude", {"CLAUDE_CODE_SESSION_ID": own, "CLAUDECODE": "1"})
    options: tuple[str, ...] = ()
    inner = command
    if delegated:
        options, inner = ("--property=Delegate=yes",), (PROGRAM, "run", "-n", "it", "--", *command)
    before = counted(keeper)["others"]
    units.run(f"agent-{own}.service", *options, command=inner)
    server = pid_in(home)
    assert session_of(server) in (f"claude:{own}", f"agent-{own}.service")
    assert counted(keeper) == {"Claude Code": 1 + delegated, "others": before}


def test_a_client_that_names_no_session_and_is_a_service(
    keeper: Scopekeeper, units: Units, home: Path
) -> None:
    unit = f"agent-{uuid.uuid4()}.service"
    before = counted(keeper)["others"]
    units.run(unit, command=client(home, "gemini", {}))
    assert session_of(pid_in(home)) == unit
    assert counted(keeper) == {"Gemini CLI": 1, "others": before}


def test_a_client_that_another_program_has_started(
    keeper: Scopekeeper, units: Units, home: Path
) -> None:
    """Also if that program's name is all that its unit shows."""
    own = str(uuid.uuid4())
    command = client(home, "claude", {"CLAUDE_CODE_SESSION_ID": own, "CLAUDECODE": "1"})
    before = counted(keeper)["others"]
    line = f"{shlex.join(command)}; true"
    units.run(f"gateway-{own}.service", command=("/bin/sh", "-c", line))
    assert session_of(pid_in(home)) == f"claude:{own}"
    assert counted(keeper) == {"Claude Code": 1, "others": before}


def test_a_session_that_a_client_names_is_its_own(
    keeper: Scopekeeper, home: Path, session: str
) -> None:
    """Whoever owns it: a gateway, or nobody any more."""
    gateway = keeper.popen(["sleep", "infinity"])
    owner = ("--owner", str(gateway.pid))
    before = counted(keeper)["others"]
    own = uuid.uuid4().hex
    keeper.member("-s", f"codex:{own}", *owner, "--", *FOREVER)
    keeper.member("-s", session, *owner, "--", *FOREVER)
    assert counted(keeper) == {"Codex CLI": 1, "others": before + 1}
    assert keeper.call("label", session, "--as", f"gemini:{own}").returncode == 0
    found = counted(keeper)
    assert found == {"Codex CLI": 1, "Gemini CLI": 1, "others": before}
    gateway.kill()
    gateway.wait()
    assert counted(keeper) == found
