"""scopekeeper-shell in SHELL=: a gateway's, a terminal's, script's, and a user's own."""

import os
import pwd
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    PROGRAM,
    SHELL,
    Scopekeeper,
    cgroup_of,
    children_of,
    directory_of,
    environment_of,
    eventually,
    is_alive,
    leaves,
    processes,
    record_of,
    scope_directories,
    scope_directory,
    sees_its_name,
    state_of,
)
from tests.terminal import Terminal

from .manager import MANAGER, SLICE, Units, main_pid, systemctl, systemd_run_argv

pytestmark = pytest.mark.systemd
BASH = shutil.which("bash") or "/bin/bash"


@pytest.fixture
def variables(keeper: Scopekeeper, session: str, tmp_path: Path) -> dict[str, str]:
    """Return what a gateway sets, and a home of the test's own."""
    return {
        "HOME": str(tmp_path),
        "PS1": "$ ",
        "SHELL": SHELL,
        "SCOPEKEEPER_SHELL": BASH,
        "SCOPEKEEPER_SESSION": session,
        "SCOPEKEEPER_LANE": "nested:deep",
    }


@pytest.fixture
def terminal(variables: dict[str, str]) -> Iterator[Terminal]:
    """Give an interactive bash on a terminal, started as a gateway starts its SHELL."""
    made = Terminal(["scopekeeper-shell", "--norc", "-i"], SHELL, variables)
    try:
        made.expect(r"\$ $")
        yield made
    finally:
        made.end()


def call(variables: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Do a command of the shell to its end, without a terminal."""
    return subprocess.run(
        [SHELL, *arguments], env=os.environ | variables, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=180,
    )  # fmt: skip


def test_a_terminal_run_is_a_scope_with_a_run_of_its_own(session: str, terminal: Terminal) -> None:
    scope = os.path.dirname(directory_of(terminal.pid))
    assert os.path.dirname(scope) == SLICE
    record = record_of(scope)
    assert (record["SESSION"], record["LANE"], record["KIND"], record["LIFETIME"]) == (
        session, "nested:deep", "pty", "session",
    )  # fmt: skip
    assert environment_of(terminal.pid)["SCOPEKEEPER_RUN"] == record["RUN"]
    assert record_of(directory_of(terminal.pid))["NAME"] == "bash"


def test_it_is_the_real_shell_with_its_pid_and_terminal(terminal: Terminal) -> None:
    assert os.path.samefile(f"/proc/{terminal.pid}/exe", BASH)
    assert os.getsid(terminal.pid) == os.getpgid(terminal.pid) == terminal.pid
    assert os.tcgetpgrp(terminal.fd) == terminal.pid
    terminal.type("echo $0 as $SHELL on $(tty) at $$\n")
    told = terminal.expect(r"(\S+) as (\S+) on (/dev/pts/\d+) at (\d+)\r")
    assert told[1] == "bash"
    assert told[2] == BASH
    assert int(told[4]) == terminal.pid
    terminal.type("exit 3\n")
    assert terminal.status() == 3


def test_jobs_are_stopped_and_resumed(terminal: Terminal) -> None:
    terminal.type("sh -c 'echo job $$; exec sleep 1000'\n")
    job = int(terminal.expect(r"job (\d+)\r")[1])
    assert os.tcgetpgrp(terminal.fd) == os.getpgid(job) != terminal.pid
    assert cgroup_of(job) == cgroup_of(terminal.pid)
    terminal.type("\x1a")
    terminal.expect(r"Stopped")
    eventually(lambda: state_of(job) == "T" and os.tcgetpgrp(terminal.fd) == terminal.pid)
    terminal.type("fg\n")
    eventually(lambda: state_of(job) == "S" and os.tcgetpgrp(terminal.fd) == os.getpgid(job))
    terminal.type("\x03")
    eventually(lambda: not state_of(job))
    terminal.type("echo status $?\n")
    terminal.expect(r"status 130\r")


def test_shells_in_shells_make_no_scope_after_scope(session: str, terminal: Terminal) -> None:
    terminal.type(f"{SHELL} --norc -i\n")
    terminal.expect(r"\$ $")
    terminal.type(f"{SHELL} -c 'echo inner $$; exec sleep 1000'\n")
    job = int(terminal.expect(r"inner (\d+)\r")[1])
    assert cgroup_of(job) == cgroup_of(terminal.pid)
    scope = scope_directory(session)
    assert len(leaves(scope)) == 1
    assert len(processes(scope)) == 3


def test_a_terminal_inside_of_the_terminal_belongs_to_it(session: str, terminal: Terminal) -> None:
    """As a tmux that was started in it: who ends the run ends all of it."""
    terminal.type(f"SHELL={SHELL} script -qec 'echo inner $$; exec sleep 1000' /dev/null\n")
    job = int(terminal.expect(r"inner (\d+)\r")[1])
    assert os.getsid(job) == job != os.getsid(terminal.pid)
    assert cgroup_of(job) == cgroup_of(terminal.pid)
    assert os.path.dirname(directory_of(job)) == scope_directory(session)


def test_a_login_shell_reads_its_profile(variables: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / ".bash_profile").write_text("echo the profile of $0\nPS1='$ '\n")
    calls = [(["scopekeeper-shell", "-l"], "bash"), (["scopekeeper-shell", "--login"], "bash")]
    if sees_its_name():
        calls.append((["-scopekeeper-shell"], "-bash"))
    for argv, name in calls:
        terminal = Terminal(argv, SHELL, variables)
        try:
            assert terminal.expect(r"the profile of (\S+)\r")[1] == name
            terminal.expect(r"\$ $")
            assert "/m-bash." in cgroup_of(terminal.pid)
        finally:
            terminal.end()


def test_status_signals_and_words_are_the_shells(variables: dict[str, str], tmp_path: Path) -> None:
    assert call(variables, "-c", "exit 7").returncode == 7
    assert call(variables, "-c", "kill -TERM $$").returncode == -signal.SIGTERM
    assert call(variables, "-c", "no-such-thing").returncode == 127
    ran = call(variables, "-c", 'printf "%s|" "$0" "$@"', "zero", "a b", "", "ü")
    assert ran.stdout == "zero|a b||ü|"
    script = tmp_path / "script"
    script.write_text('echo "$0 $1" in $SCOPEKEEPER_MEMBER\n')
    ran = call(variables, str(script), "one")
    assert ran.stdout.startswith(f"{script} one in m-script.")
    assert ran.stderr == ""


def test_a_command_without_a_terminal_joins_its_sessions_scope(
    keeper: Scopekeeper, session: str, variables: dict[str, str]
) -> None:
    server = keeper.member("-s", session, "-l", "nested:deep", "-n", "server", "--", *FOREVER)
    command = keeper.popen(
        [SHELL, "-c", "echo; exec sleep infinity"],
        env=os.environ | variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert command.stdout.readline() == b"\n"
    assert scope_directories() == [os.path.dirname(directory_of(server.pid))]
    assert os.path.dirname(directory_of(command.pid)) == scope_directories()[0]
    assert record_of(directory_of(command.pid))["KIND"] == "exec"
    assert keeper.call("stop", "-s", session).returncode == 0
    assert not is_alive(command.pid)


def test_script_runs_its_command_in_a_scope(
    keeper: Scopekeeper, session: str, variables: dict[str, str]
) -> None:
    words = ["script", "-qec", "echo $SCOPEKEEPER_MEMBER; exit 9", "/dev/null"]
    ran = subprocess.run(
        words, env=os.environ | variables, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert ran.returncode == 9
    assert ran.stdout.startswith("m-echo.")


CLIENT = """\
import os, pty, sys
pid, terminal = pty.fork()
if not pid:
    os.execv(sys.argv[1], ["bash", "-c", "trap '' HUP; echo; while :; do sleep 1; done"])
while os.read(terminal, 1) != b"\\n":
    pass
print(pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(("name", "lifetime"), [("gemini", "gateway"), ("editor", "session")])
def test_a_command_at_the_terminal_of_a_client_ends_with_it(
    keeper: Scopekeeper, variables: dict[str, str], tmp_path: Path, name: str, lifetime: str
) -> None:
    (tmp_path / name).write_text(CLIENT)
    client = keeper.popen(
        [sys.executable, str(tmp_path / name), SHELL],
        env=os.environ | variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    command = int(client.stdout.readline())
    record = record_of(directory_of(command))
    assert (record["KIND"], record["LIFETIME"]) == ("pty", lifetime)
    assert record_of(os.path.dirname(directory_of(command)))["KIND"] == "pty"
    client.kill()
    client.wait()
    assert keeper.call("reconcile").returncode == 0
    assert is_alive(command) is (name == "editor")


GATEWAY = 'while :; do $SHELL -c "echo \\$\\$ > \\$HOME/pid; exec sleep infinity"; done'


def test_the_commands_of_a_gateways_unit_end_with_it(
    keeper: Scopekeeper, units: Units, variables: dict[str, str], tmp_path: Path
) -> None:
    told = {name: value for name, value in variables.items() if "_SESSION" not in name}
    settings = [f"--setenv={name}={value}" for name, value in told.items()]
    name = "test-shell-gateway.service"
    units.run(name, *settings, command=("/bin/sh", "-c", GATEWAY))
    pid = int(eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
    assert pid in children_of(main_pid(name))
    member = record_of(directory_of(pid))
    assert (member["OWNER_UNIT"], member["KIND"], member["NAME"]) == (name, "exec", "echo")
    assert record_of(os.path.dirname(directory_of(pid)))["SESSION"] == name
    systemctl("stop", name)
    eventually(lambda: not is_alive(pid))


def test_a_command_that_cannot_be_contained_does_not_run_and_a_login_does(
    variables: dict[str, str],
) -> None:
    nowhere = variables | {"SCOPEKEEPER_PLACEMENT": f"cgroup:{MANAGER}/nowhere"}
    ran = call(nowhere, "-c", "echo ran")
    assert (ran.returncode, ran.stdout) == (125, "")
    terminal = Terminal(["-scopekeeper-shell", "--norc"], SHELL, nowhere)
    try:
        terminal.expect(r"warning: this shell runs uncontained: .*nowhere")
        terminal.type("echo status $((6 * 7))\n")
        terminal.expect(r"status 42\r")
    finally:
        terminal.end()


def test_without_a_shell_named_it_is_the_users_own(variables: dict[str, str]) -> None:
    own = pwd.getpwuid(os.getuid()).pw_shell or "/bin/sh"
    for wanted in ("", SHELL):
        ran = call(
            variables | {"SCOPEKEEPER_SHELL": wanted}, "-c", "readlink /proc/$$/exe; echo $SHELL"
        )
        exe, named = ran.stdout.split()
        assert os.path.samefile(exe, own)
        assert named == own


@pytest.mark.root
def test_another_user_gets_it_as_a_login_shell(keeper: Scopekeeper) -> None:
    try:
        uid = pwd.getpwnam("lab").pw_uid
    except KeyError:
        pytest.skip("needs the lab's user")
    told = "echo $0 $USER $SCOPEKEEPER_MEMBER; while read -r l; do echo $l; done < /proc/$$/cgroup"
    ran = subprocess.run(
        ["su", "--login", "--shell", SHELL, "--command", told, "lab"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    zero, user, member = ran.stdout.splitlines()[0].split()
    assert (zero.lstrip("-"), user) == ("bash", "lab")
    assert f"/user@{uid}.service/scopekeeper.slice/" in ran.stdout
    assert ran.stdout.rstrip().endswith(member)


def test_the_terminals_of_a_member_get_scopes_in_its_session(
    keeper: Scopekeeper, session: str, variables: dict[str, str]
) -> None:
    words = shlex.join(["script", "-qec", "echo $$ > $HOME/pid; exec sleep 1000", "/dev/null"])
    agent = keeper.member(
        "-s", session, "-l", "nested:deep", "-n", "agent", "--", "sh", "-c", f"{words} & wait",
        env=os.environ | variables, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    pid = Path(variables["HOME"], "pid")
    job = int(eventually(lambda: pid.exists() and pid.read_text()))
    scope = os.path.dirname(directory_of(job))
    assert scope != os.path.dirname(directory_of(agent.pid))
    record = record_of(scope)
    assert (record["SESSION"], record["LANE"], record["KIND"]) == (session, "nested:deep", "pty")
    assert keeper.call("stop", "-s", session).returncode == 0
    assert not is_alive(job)


@pytest.mark.parametrize("said", [True, False])
def test_a_server_of_a_gateway_with_our_shell_can_have_the_real_one(
    keeper: Scopekeeper, variables: dict[str, str], said: bool
) -> None:
    """The MCP SDK passes SHELL on to servers, and OpenClaw's drop-in has it name us."""
    expected = BASH if said else pwd.getpwuid(os.getuid()).pw_shell
    environment = os.environ | variables
    if not said:
        del environment["SCOPEKEEPER_SHELL"]
    for flag, seen in (("--real-shell", expected), ("--replace", SHELL)):
        ran = keeper.run(flag, "--", "sh", "-c", "echo $SHELL", env=environment)
        assert (ran.stdout, ran.stderr) == (f"{seen}\n", "")
    environment["SHELL"] = "/bin/other"
    assert keeper.run("--real-shell", "--", "sh", "-c", "echo $SHELL",
                      env=environment).stdout == "/bin/other\n"  # fmt: skip


GATEWAY_OF_ALL_KINDS = """\
export SCOPEKEEPER_SESSION={session} SHELL={shell} HOME={home} SCOPEKEEPER_OWNER={owner}
{launch} &
script -qec 'exec sleep 1001' /dev/null < /dev/null &
{shell} -c 'exec sleep 1002' &
read go < {home}/mail
{program} stop -s {session} --mine --lifetime gateway --lifetime session > {home}/words
sleep infinity
"""
"""A server, and a command of the gateway's shell with a terminal and without."""
KINDS = {"mcp", "pty", "exec"}


def owned_by(owner: str) -> dict[str, int]:
    """Return the members of a gateway, named by its unit or its pid, by their kinds."""
    found = {}
    for pid in (pid for scope in scope_directories() for pid in processes(scope)):
        record = record_of(directory_of(pid))
        if owner in map(record.get, ("OWNER_UNIT", "OUTER_UNIT", "OWNER_PID")):
            found[record["KIND"]] = pid
    return found


@pytest.mark.parametrize("how", ["service", "process"])
def test_a_gateway_ends_a_session_of_its_own_and_none_of_another_with_the_same_key(
    keeper: Scopekeeper, units: Units, session: str, tmp_path: Path, how: str
) -> None:
    gateways = []
    for number in (1, 2):
        home = tmp_path / str(number)
        home.mkdir()
        os.mkfifo(home / "mail")
        text = GATEWAY_OF_ALL_KINDS.format(
            session=session, shell=SHELL, home=home, program=PROGRAM,
            owner="" if how == "service" else "$$",
            launch=shlex.join(keeper.argv("--", *FOREVER)),
        )  # fmt: skip
        if how == "service":
            name = f"gateway{number}-{os.getpid()}.service"
            units.run(name, "--property=KillMode=process", command=("sh", "-c", text))
        else:
            (home / "gateway").write_text(text)  # systemd-run expands `$$` since 258
            gateway = ("sh", str(home / "gateway"))
            process = keeper.popen([*systemd_run_argv("--scope", "--collect"), *gateway])
            name = str(process.pid)
        gateways.append((name, home))
    (one, home), (two, _) = gateways
    eventually(lambda: owned_by(one).keys() == owned_by(two).keys() == KINDS)
    mine, others = owned_by(one), owned_by(two)
    (home / "mail").write_text("go\n")
    eventually(lambda: not any(map(is_alive, mine.values())))
    eventually(lambda: (home / "words").read_text().count("gone after") == len(KINDS))
    assert all(map(is_alive, others.values()))
