"""``scopekeeper install --shell``: a bash of ours, for clients that take no shell but bash."""

import json
import os
import pwd
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    ROOT,
    SHELL,
    Scopekeeper,
    directory_of,
    environment_of,
    eventually,
    is_alive,
    record_of,
    sees_its_name,
    text_of,
)
from tests.terminal import Terminal

from .installed import UNIT
from .manager import systemctl

pytestmark = pytest.mark.systemd

KIND = "--system" if ROOT else "--user"
DATA = Path("~/.local/share").expanduser()
FOLDER = Path("/usr/local/lib" if ROOT else DATA) / "scopekeeper/shells"
CLIENTS = ["Claude Code", "Codex CLI", "Gemini CLI", "hermes-agent"]
Call = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def call(keeper: Scopekeeper) -> Iterator[Call]:
    """Give ``install`` and ``uninstall``; afterwards everything is removed."""

    def do(verb: str, *options: str) -> "subprocess.CompletedProcess[str]":
        return keeper.call(verb, KIND, *options)

    yield do
    do("uninstall", "--force")
    systemctl("stop", UNIT)


def installed(call: Call) -> str:
    done = call("install", "--shell")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_made_and_each_client_pointed_to_it_and_removed(call: Call) -> None:
    printed = installed(call)
    bash = FOLDER / "bash"
    assert f"{bash}: written\n" in printed
    assert os.path.samefile(bash, SHELL)
    for client in CLIENTS:
        assert f"\n  {client}: " in printed
    assert f"\n  hermes-agent: start it with SHELL={bash} PATH={FOLDER}:$PATH\n" in printed
    assert printed.endswith("Whatever else calls a bare bash through that PATH is contained too.\n")
    again = json.loads(call("install", "--shell", "--json").stdout)
    assert [each["client"] for each in again["shell"]] == CLIENTS
    assert str(bash) not in again["written"]
    assert json.loads(call("install", "--json").stdout)["shell"] == []
    assert f"{bash}: removed\n" in call("uninstall").stdout
    assert not FOLDER.parent.exists()


def test_a_bare_bash_and_a_script_are_contained_and_are_bash(
    call: Call, keeper: Scopekeeper, session: str, tmp_path: Path
) -> None:
    installed(call)
    script = tmp_path / "script"
    script.write_text(
        '#!/usr/bin/env bash\n[[ a == a ]] && echo "$0 $1 $SCOPEKEEPER_MEMBER $BASHPID" > out\n'
        "exec sleep infinity\n"
    )
    script.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{FOLDER}:{os.environ['PATH']}", "SCOPEKEEPER_SESSION": session,
        "SHELL": f"{FOLDER}/bash",
    }  # fmt: skip
    process = keeper.popen([script, "a b"], env=environment, cwd=tmp_path, stdin=-3)
    name, *_, member, pid = eventually(lambda: text_of(tmp_path / "out").split())
    assert (name, int(pid)) == (str(script), process.pid), "the same process, with its own words"
    assert member.startswith("m-script.")
    record = record_of(directory_of(process.pid))
    assert (record["KIND"], record["NAME"]) == ("exec", "script")
    eventually(lambda: text_of(f"/proc/{process.pid}/comm") == "sleep\n")
    shell = eventually(lambda: environment_of(process.pid).get("SHELL"))
    assert not os.path.samefile(shell, SHELL)
    inner = subprocess.run(
        ["bash", "-c", "bash -c 'readlink /proc/$$/exe; echo $SCOPEKEEPER_SESSION'"],
        env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    exe, *named = inner.stdout.split()
    assert os.path.samefile(exe, "/bin/bash")
    assert (named, inner.stderr) == ([session], "")
    assert keeper.call("stop", "-s", session).returncode == 0
    assert not is_alive(process.pid)


def test_it_is_found_as_a_login_shell_by_its_dash(call: Call, session: str, tmp_path: Path) -> None:
    if not sees_its_name():
        pytest.skip("a script does not see its first word")
    installed(call)
    (tmp_path / ".bash_profile").write_text("echo the profile of $0\nPS1='$ '\n")
    variables = {"HOME": str(tmp_path), "PATH": f"{FOLDER}:/usr/bin:/bin",
                 "SCOPEKEEPER_SESSION": session}  # fmt: skip
    terminal = Terminal(["-bash"], f"{FOLDER}/bash", variables)
    try:
        assert terminal.expect(r"the profile of (\S+)\r")[1] == "-bash"
        terminal.expect(r"\$ $")
        assert record_of(directory_of(terminal.pid))["KIND"] == "pty"
    finally:
        terminal.end()


@pytest.mark.root
def test_as_a_users_login_shell_it_is_bash_and_stays_at_an_uninstall(call: Call) -> None:
    try:
        before = pwd.getpwnam("lab").pw_shell
    except KeyError:
        pytest.skip("needs the lab's user")
    installed(call)
    bash = f"{FOLDER}/bash"
    subprocess.run(["usermod", "--shell", bash, "lab"], check=True)
    try:
        told = "[[ a == a ]] && echo $SCOPEKEEPER_MEMBER; readlink /proc/$$/exe"
        # as Codex: the shell of the password database, if its file is called bash
        ran = subprocess.run(
            ["su", "--login", "--command", f"{told}; :", "lab"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert (ran.returncode, ran.stderr) == (0, "")
        member, exe = ran.stdout.split()
        assert member.startswith("m-")
        assert os.path.samefile(exe, "/bin/bash")
        kept = call("uninstall")
        assert f"{bash}: kept: it is the login shell of lab; first: usermod" in kept.stderr
        assert os.path.samefile(bash, SHELL)
    finally:
        subprocess.run(["usermod", "--shell", before, "lab"], check=True)
    assert f"{bash}: removed\n" in call("uninstall").stdout
    assert not os.path.lexists(bash)


def test_a_wrong_link_of_somebody_else_stays(call: Call) -> None:
    FOLDER.mkdir(parents=True)
    try:
        (FOLDER / "bash").symlink_to("/bin/bash")
        done = call("install", "--shell")
        assert f"{FOLDER}/bash: kept: somebody else made it; remove it to have ours" in done.stderr
        assert os.readlink(FOLDER / "bash") == "/bin/bash"
    finally:
        (FOLDER / "bash").unlink()
        FOLDER.rmdir()
        FOLDER.parent.rmdir()


def test_what_runs_through_it_goes_on_after_an_uninstall(
    call: Call, keeper: Scopekeeper, session: str
) -> None:
    installed(call)
    environment = os.environ | {"SCOPEKEEPER_SESSION": session}
    process = keeper.popen(
        [FOLDER / "bash", "-c", " ".join(["exec", *FOREVER])], env=environment, stdin=-3
    )
    eventually(lambda: "SCOPEKEEPER_MEMBER" in environment_of(process.pid))
    assert call("uninstall").returncode == 0
    assert is_alive(process.pid)
