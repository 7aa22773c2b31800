"""The shell that stands in SHELL=, where there is no systemd; and where nothing can contain it."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    SHELL,
    Scopekeeper,
    cgroup_of,
    children_of,
    directory_of,
    environment_of,
    eventually,
    leaves,
    record_of,
    scope_directories,
    sees_its_name,
    wait_for_command,
)
from tests.terminal import Terminal

pytestmark = pytest.mark.root


@pytest.fixture
def program() -> None:
    """Ask for a shell that sees its first word."""
    if not sees_its_name():
        pytest.skip("scopekeeper-shell is a script here")


@pytest.fixture
def variables(folder: str, session: str) -> dict[str, str]:
    """Return what a gateway sets for its commands."""
    return {
        "SHELL": SHELL,
        "SCOPEKEEPER_SHELL": "/bin/sh",
        "SCOPEKEEPER_SESSION": session,
        "SCOPEKEEPER_PLACEMENT": f"cgroup:{folder}",
    }


def test_a_command_without_a_terminal_joins_its_sessions_scope(
    keeper: Scopekeeper, session: str, folder: str, variables: dict[str, str]
) -> None:
    server = keeper.member("-s", session, "-n", "server", "--", *FOREVER)
    command = keeper.popen(
        [SHELL, "-c", "echo $$; exec sleep infinity"],
        env=os.environ | variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert int(command.stdout.readline()) == command.pid
    assert scope_directories(folder) == [os.path.dirname(directory_of(server.pid))]
    record = record_of(directory_of(command.pid))
    assert os.path.dirname(cgroup_of(command.pid)) == os.path.dirname(cgroup_of(server.pid))
    assert (record["KIND"], record["NAME"], record["PID"]) == ("exec", "echo", str(command.pid))
    # in the middle of its exec it has no environment
    eventually(lambda: environment_of(command.pid).get("SHELL") == "/bin/sh")


def test_a_terminal_gets_a_scope_of_its_own_and_what_runs_in_it_stays_there(
    keeper: Scopekeeper, session: str, folder: str, variables: dict[str, str]
) -> None:
    terminal = Terminal([SHELL], environment=variables)
    try:
        terminal.expect(r"\$ $")
        scope = os.path.dirname(directory_of(terminal.pid))
        assert record_of(scope)["KIND"] == "pty"
        assert record_of(scope)["LIFETIME"] == "session"
        assert record_of(scope)["RUN"]
        assert os.path.samefile(f"/proc/{terminal.pid}/exe", "/bin/sh")
        terminal.type(f"{SHELL}\n")
        terminal.expect(r"\$ $")
        terminal.type(f"{SHELL} -c 'exec sleep 1000'\n")
        (nested,) = eventually(lambda: children_of(terminal.pid))
        (job,) = eventually(lambda: children_of(nested))
        eventually(lambda: os.path.basename(os.readlink(f"/proc/{job}/exe")) == "sleep")
        assert cgroup_of(job) == cgroup_of(nested) == cgroup_of(terminal.pid)
        assert scope_directories(folder) == [scope]
        assert len(leaves(scope)) == 1
    finally:
        terminal.end()


@pytest.mark.usefixtures("program")
@pytest.mark.skipif(not shutil.which("tmux"), reason="there is no tmux")
def test_each_window_of_tmux_is_a_login_shell_in_a_scope_of_its_own(
    keeper: Scopekeeper, session: str, folder: str, variables: dict[str, str], tmp_path: Path
) -> None:
    tmux = ["tmux", "-S", str(tmp_path / "socket"), "-f", "/dev/null"]
    home = {"HOME": str(tmp_path), "TERM": "screen"}
    (tmp_path / ".profile").write_text(f"echo $0 $SHELL >> {tmp_path}/profiles\n")
    try:
        for verb in ("new-session", "new-window"):
            subprocess.run([*tmux, verb, "-d"], env=os.environ | variables | home, check=True)
        profiles = tmp_path / "profiles"
        eventually(lambda: profiles.exists() and len(profiles.read_text().splitlines()) == 2)
        assert set(profiles.read_text().splitlines()) == {"-sh /bin/sh"}
        one, two = scope_directories(folder)
        for scope in (one, two):
            assert record_of(scope)["SESSION"] == session
            assert record_of(scope)["KIND"] == "pty"
    finally:
        subprocess.run([*tmux, "kill-server"], capture_output=True)


def try_commands_of_a_member_are_members_beside_it(
    keeper: Scopekeeper, session: str, folder: str, variables: dict[str, str]
) -> None:
    words = shlex.join([SHELL, "-c", "exec sleep infinity"])
    bare = {name: variables[name] for name in ("SHELL", "SCOPEKEEPER_PLACEMENT")}
    script = f"env -i {shlex.join(f'{k}={v}' for k, v in bare.items())} {words} & wait"
    server = keeper.member("-s", session, "-l", "cron", "--run", "7", "--", "sh", "-c", script)
    (command,) = eventually(lambda: children_of(server.pid))
    eventually(lambda: environment_of(command).get("SCOPEKEEPER_MEMBER", "").startswith("m-sleep."))
    assert os.path.dirname(cgroup_of(command)) == os.path.dirname(cgroup_of(server.pid))
    assert cgroup_of(command) != cgroup_of(server.pid)
    assert record_of(directory_of(command))["NAME"] == "sleep"


def test_who_was_launched_as_a_member_is_not_contained_again(
    keeper: Scopekeeper, session: str, folder: str, variables: dict[str, str]
) -> None:
    process = keeper.start(
        "-s", session, "-n", "mine", "--", SHELL, "-c", "echo $$; exec sleep infinity",
        env=os.environ | variables, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert int(process.stdout.readline()) == process.pid
    wait_for_command(process)
    assert "/m-mine." in cgroup_of(process.pid)
    (scope,) = scope_directories(folder)
    assert len(leaves(scope)) == 1


WITHOUT_CGROUPS = "umount -R -l /sys/fs/cgroup; "
WITHOUT_PROC = "umount -R -l /proc; "


def in_a_broken_root(
    breaking: str, words: list[str], first: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Call the shell where mounts are missing."""
    call = f'{breaking}exec -a "${{FIRST:-scopekeeper-shell}}" {shlex.join([SHELL, *words])}'
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "FIRST": first}
    return subprocess.run(
        ["unshare", "--mount", "bash", "-c", call], env=environment | variables, text=True,
        capture_output=True, input="echo $((6 * 7))\n", timeout=60,
    )  # fmt: skip


@pytest.mark.usefixtures("program")
@pytest.mark.parametrize("breaking", [WITHOUT_CGROUPS, WITHOUT_CGROUPS + WITHOUT_PROC])
def test_a_login_works_without_cgroups(breaking: str) -> None:
    ran = in_a_broken_root(breaking, [], first="-scopekeeper-shell")
    assert (ran.returncode, ran.stdout) == (0, "42\n")
    said = [line for line in ran.stderr.splitlines() if line.startswith("scopekeeper: ")]
    assert len(said) == 1
    assert "warning: this shell runs uncontained" in said[0]


def test_a_command_of_a_gateway_does_not() -> None:
    ran = in_a_broken_root(WITHOUT_CGROUPS, ["-c", "echo ran"], SCOPEKEEPER_SESSION="s")
    assert (ran.returncode, ran.stdout) == (125, "")
    asked = {"SCOPEKEEPER_SESSION": "s", "SCOPEKEEPER_IF_UNAVAILABLE": "warn"}
    ran = in_a_broken_root(WITHOUT_CGROUPS, ["-c", "echo ran"], **asked)
    assert (ran.returncode, ran.stdout) == (0, "ran\n")


def passwd_with_us(tmp_path: Path) -> str:
    """Return what makes us root's login shell, for who runs it in a mount namespace."""
    lines = [
        line.rpartition(":")[0] + f":{SHELL}" if line.startswith("root:") else line
        for line in Path("/etc/passwd").read_text().splitlines()
    ]
    path = tmp_path / "passwd"
    path.write_text("\n".join(lines) + "\n")
    return f"mount --bind {path} /etc/passwd; "


def test_a_command_over_ssh_works_where_it_is_the_login_shell(tmp_path: Path) -> None:
    breaking = passwd_with_us(tmp_path) + WITHOUT_CGROUPS
    ran = in_a_broken_root(breaking, ["-c", "echo ran"])
    assert (ran.returncode, ran.stdout) == (0, "ran\n")
    assert "uncontained" in ran.stderr
    ran = in_a_broken_root(breaking, ["-c", "echo ran"], SCOPEKEEPER_SESSION="s")
    assert ran.returncode == 125


def test_where_everything_names_us_the_shell_is_bin_sh(
    keeper: Scopekeeper, tmp_path: Path, variables: dict[str, str]
) -> None:
    link = tmp_path / "mysh"
    link.symlink_to(SHELL)
    for wanted in (SHELL, str(link), ""):
        ran = in_a_broken_root(
            passwd_with_us(tmp_path), ["-c", "readlink /proc/$$/exe; echo $SHELL"],
            **(variables | {"SCOPEKEEPER_SHELL": wanted}),
        )  # fmt: skip
        exe, named = ran.stdout.split()
        assert os.path.samefile(exe, "/bin/sh")
        assert named == "/bin/sh"
        assert ran.stderr == ""
