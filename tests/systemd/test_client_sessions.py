"""Sessions that clients name: which launches are theirs, and which have only inherited the id."""

import json
import os
import shlex
import shutil
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
    SHELL,
    Scopekeeper,
    directory_of,
    eventually,
    is_alive,
    record_of,
    text_of,
)

from .guard import Keeper
from .ssh import HOST, IS_THERE, Ssh

pytestmark = pytest.mark.systemd

CLIENTS = {
    "claude": {"CLAUDE_CODE_SESSION_ID": "ID", "CLAUDECODE": "1"},
    "codex": {"CODEX_SESSION_ID": "ID", "CODEX_THREAD_ID": "another"},
    "copilot": {"COPILOT_AGENT_SESSION_ID": "ID"},
}
"""The variables that each client sets; ID is the session's."""
FOR_SHELLS = {"SHELL": SHELL, "SCOPEKEEPER_SHELL": "/bin/sh"}
IGNORED = "CLAUDE_CODE_SESSION_ID is ignored: it was inherited from another session"


class Client:
    """A running stand-in of some name."""

    def __init__(self, folder: Path, name: str, variables: dict[str, str]) -> None:
        self.variables = variables
        program = folder / name
        if not program.exists():
            source = Path(client_standin.__file__).read_text()
            program.write_text(f"#!{sys.executable} -IS\n{source}")
            program.chmod(0o755)
        self.program = str(program)
        self.errors = folder / f"{name}.{uuid.uuid4().hex[:6]}.stderr"

    def open(self) -> "Client":
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [self.program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                text=True, env=clean(),
            )  # fmt: skip
        return self

    def start(self, *words: str, own: bool = False, **more: str) -> int:
        """Start a program, in a session of its own or not; return its pid."""
        asked = {"words": words, "variables": self.variables | more, "own": own}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def server(self, **more: str) -> int:
        return self.start(PROGRAM, "run", "--", *FOREVER, **more)

    @property
    def warnings(self) -> list[str]:
        lines = self.errors.read_text().splitlines()
        return [line for line in lines if "waiting for" not in line]

    def close(self) -> None:
        with self.process:
            assert self.process.stdin is not None
            self.process.stdin.close()


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("TMUX", "SHELL")}


@pytest.fixture
def client(keeper: Scopekeeper, tmp_path: Path) -> Iterator[Callable[..., Client]]:
    """Return a function that starts a stand-in with the variables of that client."""
    opened: list[Client] = []

    def start(name: str, **more: str) -> Client:
        own = str(uuid.uuid4())
        variables = {k: v.replace("ID", own) for k, v in CLIENTS.get(name, {}).items()} | more
        opened.append(Client(tmp_path, name, variables).open())
        opened[-1].session = f"{name}:{own}"  # type: ignore[attr-defined]
        return opened[-1]

    yield start
    for each in opened:
        each.close()
    assert keeper


def belongs_to(pid: int) -> str:
    """Return the session in whose scope a process runs its command, '' until it does."""
    leaf = directory_of(pid)
    scope = os.path.dirname(leaf)
    arrived = "SCOPEKEEPER_MEMBER=" in text_of(f"/proc/{pid}/environ")
    return record_of(scope).get("SESSION", "") if arrived and scope.endswith(".scope") else ""


def session_of(pid: int) -> str:
    return eventually(lambda: belongs_to(pid))


def note_of(keeper: Scopekeeper, pid: int) -> object:
    """Return what ``ls --json`` has about an ignored variable of a member."""
    members = [each for scope in keeper.scopes() for each in scope["members"]]  # type: ignore[attr-defined]
    (found,) = [each["ignored"] for each in members if each["pid"] == pid]
    return found


def is_ignored(keeper: Scopekeeper, pid: int, variable: str = "CLAUDE_CODE_SESSION_ID") -> None:
    """Prove that a member is in a session of its owner's, with a note."""
    assert session_of(pid).partition(":")[0] not in CLIENTS
    assert record_of(directory_of(pid))["IGNORED"] == f"{variable} inherited"
    assert note_of(keeper, pid) == {"variable": variable, "reason": "inherited"}


def child_of(pid: int) -> int:
    """Return the one child of a process, once it has one."""
    return int(eventually(lambda: text_of(f"/proc/{pid}/task/{pid}/children").split())[0])


BACKGROUND = """\
import os, sys, time
shell, how, file, *words = sys.argv[1:]
if how == "setsid":
    os.setsid()
    if os.fork():
        os.wait()
        sys.exit()
while how == "orphan" and os.getppid() == int(shell):
    time.sleep(0.01)
for name in [name for name in os.environ if name.startswith("SCOPEKEEPER_")]:
    del os.environ[name]
with open(file, "w") as pid:
    pid.write(f"{os.getpid()}\\n")
os.execv(words[0], words)
"""


def background(one: Client, folder: Path, how: str, *before: str) -> int:
    """Launch a server from a background command that has lost its descent; return its pid."""
    file = folder / uuid.uuid4().hex[:6]
    run = shlex.join([how, str(file), PROGRAM, "run", "--", *FOREVER])
    line = f"{shlex.join([sys.executable, '-c', BACKGROUND])} $$ {run} &"
    line += " wait" if how == "setsid" else ""
    one.start(*before, "-c", line, own=True, **FOR_SHELLS)

    def is_launched() -> int:
        pid = int(text_of(file) or 0)
        leaf = directory_of(pid) if pid else ""
        return pid if "/m-" in leaf and record_of(leaf)["PID"] == str(pid) else 0

    return eventually(is_launched)


@pytest.mark.parametrize("how", ["orphan", "setsid"])
def test_a_background_command_in_a_scope_of_the_session_is_of_it(
    keeper: Scopekeeper, client: Callable[..., Client], tmp_path: Path, how: str
) -> None:
    """Also once its shell has ended, or in a kernel session of its own."""
    one = client("claude")
    server = background(one, tmp_path, how, SHELL)
    assert session_of(server) == one.session  # type: ignore[attr-defined]
    record = record_of(directory_of(server))
    assert (record["OWNER_PID"], record.get("IGNORED")) == (str(one.process.pid), None)
    assert one.warnings == []
    assert keeper.call("stop", "-s", one.session).returncode == 0  # type: ignore[attr-defined]


def test_in_no_scope_or_in_one_of_another_session_it_is_not(
    keeper: Scopekeeper, client: Callable[..., Client], tmp_path: Path, session: str
) -> None:
    one = client("claude")
    is_ignored(keeper, background(one, tmp_path, "orphan", "/bin/sh"))
    other = (PROGRAM, "run", "-s", session, "--", "/bin/sh")
    is_ignored(keeper, background(one, tmp_path, "orphan", *other))


@pytest.mark.parametrize("name", CLIENTS)
def test_a_server_and_a_command_are_of_the_session_that_their_client_names(
    keeper: Scopekeeper, client: Callable[..., Client], name: str
) -> None:
    one = client(name)
    server = one.server()
    command = one.start(SHELL, "-c", "exec sleep 1000", own=True, **FOR_SHELLS)
    assert session_of(server) == session_of(command) == one.session  # type: ignore[attr-defined]
    assert os.path.dirname(directory_of(server)) == os.path.dirname(directory_of(command))
    assert record_of(directory_of(server))["OWNER_PID"] == str(one.process.pid)
    assert "IGNORED" not in record_of(directory_of(server))
    assert note_of(keeper, server) is None
    assert one.warnings == []
    done = keeper.call("stop", "-s", one.session)  # type: ignore[attr-defined]
    assert done.returncode == 0, done.stderr


def test_so_is_what_a_command_in_an_uncontained_shell_launches(
    client: Callable[..., Client],
) -> None:
    one = client("claude")
    line = shlex.join([PROGRAM, "run", "--", *FOREVER])
    shell = one.start("/bin/sh", "-c", f"{line}; true", own=True)
    assert session_of(child_of(shell)) == one.session  # type: ignore[attr-defined]


def test_an_option_and_our_own_variable_override_the_client(
    client: Callable[..., Client], session: str
) -> None:
    one = client("claude")
    named = one.start(PROGRAM, "run", "-s", session, "--", *FOREVER)
    inherited = one.server(SCOPEKEEPER_SESSION=f"{session}:outer")
    assert (session_of(named), session_of(inherited)) == (session, f"{session}:outer")


def test_two_sessions_of_one_program_are_two(client: Callable[..., Client]) -> None:
    one, two = client("claude"), client("claude")
    found = [session_of(each.server()) for each in (one, two)]
    assert found == [one.session, two.session]  # type: ignore[attr-defined]


def inner(outer: Client, program: Client, **variables: str) -> "Inner":
    """Start a program from a command of a client."""
    return Inner(outer, program, variables)


class Inner:
    """A stand-in that another one has started, in a session of its own; talks over a FIFO."""

    def __init__(self, outer: Client, program: Client, variables: dict[str, str]) -> None:
        folder = Path(program.program).parent
        name = uuid.uuid4().hex[:6]
        self._requests, self._answers = folder / f"{name}.in", folder / f"{name}.out"
        os.mkfifo(self._requests)
        line = f"{shlex.quote(program.program)} < {self._requests} > {self._answers}; true"
        outer.start("/bin/sh", "-c", line, own=True)
        self._write = self._requests.open("w")
        self._variables = variables

    def server(self) -> int:
        asked = {
            "words": [PROGRAM, "run", "--", *FOREVER], "variables": self._variables, "own": False,
        }  # fmt: skip
        before = len(self._lines())
        self._write.write(json.dumps(asked) + "\n")
        self._write.flush()
        return int(eventually(lambda: self._lines()[before:])[0])

    def _lines(self) -> list[str]:
        return [line for line in text_of(self._answers).splitlines(keepends=True) if "\n" in line]

    def close(self) -> None:
        self._write.close()


@pytest.fixture
def begin(client: Callable[..., Client]) -> Iterator[Callable[..., tuple[Client, Inner]]]:
    """Return a function that starts a client, and from a command of it another program."""
    opened: list[Inner] = []

    def start(name: str, **variables: str) -> tuple[Client, Inner]:
        outer = client("claude")
        opened.append(inner(outer, Client(Path(outer.program).parent, name, {}), **variables))
        return outer, opened[-1]

    yield start
    for each in opened:
        each.close()


@pytest.mark.parametrize("name", ["gemini", "codex", "claude"])
def test_a_client_in_a_client_without_an_id_of_its_own_is_not_of_the_outer_session(
    keeper: Scopekeeper, begin: Callable[..., tuple[Client, Inner]], name: str
) -> None:
    outer, program = begin(name)
    one, two = program.server(), program.server()
    for pid in (one, two):
        is_ignored(keeper, pid)
    assert session_of(one) == session_of(two)
    shown = keeper.call("ls", "--members").stdout
    assert shown.count(f"      {IGNORED}\n") == 2
    (warning,) = outer.warnings  # one for both
    assert warning == (
        f"scopekeeper: warning: {IGNORED}; name the session with --session or SCOPEKEEPER_SESSION"
    )
    keeper.call("stop", "-s", outer.session)  # type: ignore[attr-defined]
    assert is_alive(one)
    assert is_alive(two)


def test_a_client_in_a_client_is_of_its_own_session(
    begin: Callable[..., tuple[Client, Inner]],
) -> None:
    own = str(uuid.uuid4())
    outer, program = begin("copilot", COPILOT_AGENT_SESSION_ID=own)
    assert session_of(program.server()) == f"copilot:{own}"
    same, program = begin("claude", CLAUDE_CODE_SESSION_ID=own)
    assert session_of(program.server()) == f"claude:{own}"
    assert outer.warnings == same.warnings == []


def test_a_gateway_started_from_a_shell_of_a_client_is_not_of_its_session(
    keeper: Scopekeeper, begin: Callable[..., tuple[Client, Inner]]
) -> None:
    outer, program = begin("gateway")
    is_ignored(keeper, program.server())
    assert len(outer.warnings) == 1


PYTHON = """\
import sys, scopekeeper
with scopekeeper.Cohort() as cohort:
    for _ in range(2):
        print(cohort.spawn(["sleep", "1000"]).pid, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("own", [False, True])
def test_what_a_program_in_python_spawns_follows_the_same_rule(
    keeper: Scopekeeper, client: Callable[..., Client], tmp_path: Path, own: bool
) -> None:
    """A server of the client, which spawns; and a gateway from a command."""
    one = client("claude")
    line = f"{shlex.join([sys.executable, '-c', PYTHON])} > {tmp_path}/pids; true"
    one.start(*(("/bin/sh", "-c", line)), own=own)
    pids = eventually(lambda: len(found := text_of(tmp_path / "pids").split()) == 2 and found)
    for pid in map(int, pids):
        if own:
            is_ignored(keeper, pid)
        else:
            assert session_of(pid) == one.session  # type: ignore[attr-defined]
    assert sum(IGNORED in line for line in one.warnings) == int(own)


@pytest.mark.skipif(not shutil.which("tmux"), reason="tmux is not installed")
def test_a_tmux_server_founded_by_a_client_does_not_pass_its_session_on(
    keeper: Scopekeeper, client: Callable[..., Client], tmp_path: Path
) -> None:
    one = client("claude", TMUX_TMPDIR=str(tmp_path), TERM="screen", HOME=str(tmp_path))
    line = shlex.join([PROGRAM, "run", "--", *FOREVER])
    try:
        one.start("/bin/sh", "-c", f"tmux new-session -d '{line}; true'; true", own=True)
        words = ["tmux", "list-panes", "-a", "-F", "#{pane_pid}"]
        variables = clean() | one.variables

        def pane_of() -> str:
            done = subprocess.run(words, env=variables, capture_output=True, text=True)
            return done.stdout.strip()

        pane = eventually(pane_of)
        environment = text_of(f"/proc/{pane}/environ").split("\0")
        assert "CLAUDECODE=1" in environment  # it was inherited so far
        is_ignored(keeper, child_of(int(pane)))
    finally:
        subprocess.run(["tmux", "kill-server"], env=clean() | one.variables, capture_output=True)


@pytest.mark.skipif(not IS_THERE, reason="dropbear is not installed")
def test_over_ssh_a_client_does_not_pass_its_session_on(
    keeper: Scopekeeper, client: Callable[..., Client], tmp_path: Path
) -> None:
    """The variables are set as a server with AcceptEnv does it, which dropbear has not."""
    one = client("claude")
    ssh = Ssh(tmp_path)
    try:
        given = [f"{name}={value}" for name, value in one.variables.items()]
        remote = shlex.join(["env", *given, PROGRAM, "run", "--", *FOREVER])
        line = ssh.line(HOST, f"echo $$ > {tmp_path}/shell; exec {remote}")
        one.start("/bin/sh", "-c", line, own=True)
        is_ignored(keeper, int(eventually(lambda: text_of(tmp_path / "shell"))))
    finally:
        ssh.close()


@pytest.mark.parametrize("value", ["", " ", "a b", "x" * 129, "../x", "\x1b]0;x\x07", "a\nb", "é"])
def test_a_bad_value_is_ignored_and_the_launch_goes_on(
    client: Callable[..., Client], value: str
) -> None:
    one = client("claude")
    servers = [one.server(CLAUDE_CODE_SESSION_ID=value) for _ in range(2)]
    for pid in servers:
        assert session_of(pid).partition(":")[0] != "claude"
        record = record_of(directory_of(pid))
        assert record.get("IGNORED") == ("CLAUDE_CODE_SESSION_ID invalid" if value else None)
    assert len(one.warnings) == (1 if value else 0)
    assert all("its value is no session id" in line for line in one.warnings)


MINE = """\
[mine]
programs = ["mine"]
session = ["MY_SESSION"]
beside = ["MINE"]
prefix = "my"
lane = "cli"
owner = "client"
"""


def test_a_user_adds_a_client(
    keeper: Scopekeeper, client: Callable[..., Client], tmp_path: Path
) -> None:
    """Its proxy's server is owned by the client itself, as the table has it."""
    (tmp_path / "clients.toml").write_text(MINE)
    variables = {"MY_SESSION": "7.a", "MINE": "1", "SCOPEKEEPER_CONFIG": str(tmp_path)}
    one = client("mine", **variables)
    line = shlex.join([PROGRAM, "run", "--", *FOREVER])
    direct, proxy = one.server(), one.start("/bin/sh", "-c", f"{line} < /dev/null; true")
    for pid in (direct, child_of(proxy)):
        assert session_of(pid) == "my:7.a"
        scope = record_of(os.path.dirname(directory_of(pid)))
        assert scope["LANE"] == "cli"
        assert record_of(directory_of(pid))["OWNER_PID"] == str(one.process.pid)
    alone = one.server(MINE="")
    assert session_of(alone) != "my:7.a"
    assert record_of(directory_of(alone))["IGNORED"] == "MY_SESSION incomplete"
    assert keeper.call("stop", "-s", "my:7.a").returncode == 0


def test_a_wrong_table_of_a_user_is_one_line_and_the_launch_goes_on(
    client: Callable[..., Client], tmp_path: Path
) -> None:
    (tmp_path / "clients.toml").write_text("[mine]\nprograms = 7\n")
    one = client("claude", SCOPEKEEPER_CONFIG=str(tmp_path))
    assert session_of(one.server()) == one.session  # type: ignore[attr-defined]
    (line,) = one.warnings
    assert f"{tmp_path}/clients.toml: [mine]: programs is a list" in line


def test_a_run_at_a_terminal_of_its_own_is_of_the_session(
    guard: Keeper, keeper: Scopekeeper, client: Callable[..., Client], tmp_path: Path
) -> None:
    guard.start()  # else the run starts one that stays for a while
    one = client("claude")
    line = shlex.join([PROGRAM, "exec", "-d", "--json", "--", *FOREVER])
    one.start("/bin/sh", "-c", f"{line} > {tmp_path}/run; true", own=True)
    run = json.loads(eventually(lambda: text_of(tmp_path / "run")))
    assert run["session"] == one.session  # type: ignore[attr-defined]
    (found,) = eventually(lambda: [
        scope for scope in keeper.scopes()
        if scope["kind"] == "pty" and scope["session"] == one.session  # type: ignore[attr-defined]
    ])  # fmt: skip
    assert keeper.call("stop", "-s", str(found["session"])).returncode == 0
