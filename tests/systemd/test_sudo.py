"""``sudo scopekeeper`` runs nothing and believes nothing that its user has planted.

Only root can write the rules of sudo; the user who calls it is lab.
"""

import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import FOREVER, PROGRAM, Scopekeeper, directory_of, eventually, is_alive

from .canary import Canaries
from .installed import UNIT
from .manager import Units, uid_of
from .test_callers import bare
from .test_other_users import as_user
from .test_two_users import LISTENS, MODULES, PLANTED

pytestmark = [pytest.mark.systemd, pytest.mark.root]

TRAP = Path("/tmp/sudo-trap")
MARK = Path("/tmp/planted")
PROGRAMS = (
    "scopekeeper", "python3", "systemctl", "systemd-run", "busctl", "journalctl", "loginctl",
    "docker", "podman", "ssh", "sh", "bash", "git", "tmux", "ps", "less", "more", "id", "getent",
    "sudo", "crun", "dbus-send", "systemd-escape", "env",
)  # fmt: skip
SCRIPT = '#!/bin/sh\necho "$(/usr/bin/id -u) $0" >>/tmp/planted\n'
POLICY = """
escaped = "stop"
[lanes.default]
ttl = "1us"
grace = "1us"
orphan_grace = "0"
on_owner_gone = "stop"
"""
WAYS = {
    "plain": ["sudo", "-n"],
    "with its environment": ["sudo", "-n", "-E"],
    "as a login": ["sudo", "-n", "-i"],
    "without a path of its own": ["sudo", "-n", "-E"],
}
RULES = """
Defaults!ALL !requiretty
lab ALL=(ALL) NOPASSWD: SETENV: ALL
"""


@pytest.fixture
def trap(keeper: Scopekeeper) -> Iterator[subprocess.Popen[bytes]]:
    """Plant libraries, programs, rules and a bus of lab's; gives who listens at the bus."""
    TRAP.mkdir()
    for name in MODULES:
        (TRAP / f"{name}.py").write_text(PLANTED)
    (TRAP / "bin").mkdir()
    for name in PROGRAMS:
        (TRAP / "bin" / name).write_text(SCRIPT)
        (TRAP / "bin" / name).chmod(0o755)
    for folder in (".config/scopekeeper", "config/scopekeeper", "rules", "state/owned"):
        (TRAP / folder).mkdir(parents=True)
    for folder in (".config/scopekeeper", "config/scopekeeper", "rules"):
        (TRAP / folder / "config.toml").write_text(POLICY)
    for each in (TRAP, *TRAP.rglob("*")):
        shutil.chown(each, "lab", "lab")
    listens = keeper.popen(
        as_user("lab", sys.executable, "-IS", "-c", LISTENS, str(TRAP / "bus")),
        stdout=subprocess.PIPE, cwd="/",
    )  # fmt: skip
    assert listens.stdout is not None
    assert listens.stdout.readline() == b"ready\n"
    yield listens
    shutil.rmtree(TRAP)
    MARK.unlink(missing_ok=True)


def environment() -> dict[str, str]:
    """Return what lab has in her environment."""
    bus = f"unix:path={TRAP}/bus"
    return bare("lab") | {
        "PATH": f"{TRAP}/bin:{os.environ['PATH']}", "PYTHONPATH": str(TRAP), "HOME": str(TRAP),
        "PYTHONSTARTUP": f"{TRAP}/os.py", "PYTHONHOME": str(TRAP), "PYTHONINSPECT": "1",
        "XDG_CONFIG_HOME": f"{TRAP}/config", "XDG_STATE_HOME": f"{TRAP}/state",
        "XDG_RUNTIME_DIR": f"/run/user/{uid_of('lab')}", "DBUS_SESSION_BUS_ADDRESS": bus,
        "DBUS_SYSTEM_BUS_ADDRESS": bus, "SCOPEKEEPER_CONFIG": f"{TRAP}/rules",
        "SCOPEKEEPER_PLACEMENT": "user", "PAGER": f"{TRAP}/bin/less", "BASH_ENV": f"{TRAP}/bin/sh",
        "LD_PRELOAD": f"{TRAP}/os.py", "SHELL": f"{TRAP}/bin/sh", "EDITOR": f"{TRAP}/bin/sh",
    }  # fmt: skip


@pytest.fixture
def rules(request: pytest.FixtureRequest) -> Iterator[None]:
    """Allow lab everything, as on a machine of hers; and have the program where sudo looks."""
    assert shutil.which("sudo"), "there is no sudo here"
    file = Path("/etc/sudoers.d/scopekeeper-test")
    own_path = "without a path" in request.node.name
    path = "!secure_path" if own_path else f"secure_path={os.path.dirname(PROGRAM)}:{os.defpath}"
    file.write_text(f"{RULES}Defaults {path}\n")
    file.chmod(0o440)
    assert subprocess.run(["visudo", "-c"], capture_output=True).returncode == 0
    yield
    file.unlink()


@pytest.mark.usefixtures("rules")
@pytest.mark.parametrize("way", WAYS)
def test_it_runs_nothing_and_believes_nothing_of_its_users(
    units: Units, keeper: Scopekeeper, session: str, trap: subprocess.Popen[bytes], way: str
) -> None:
    units.adopt(UNIT)
    canaries = Canaries(keeper, session)
    mine = keeper.member("-s", session, "-n", "root's", "--", *FOREVER)
    theirs = keeper.popen(
        as_user("lab", *keeper.argv("-s", session, "-n", "lab's", "--", *FOREVER)),
        env=bare("lab"), cwd="/",
    )  # fmt: skip
    eventually(lambda: "scopekeeper-" in directory_of(theirs.pid))
    program = PROGRAM if way == "without a path of its own" else "scopekeeper"

    def sudo(*words: str) -> subprocess.CompletedProcess[str]:
        call = as_user("lab", shutil.which("sudo") or "sudo", *WAYS[way][1:], program, *words)
        done = subprocess.run(call, env=environment(), cwd=TRAP, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=120)  # fmt: skip
        print(words, done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    assert session in sudo("ls").stdout
    assert "root's" in sudo("ls", "--members").stdout
    for words in (["ps"], ["history"], ["why", session], ["policy", "show"], ["status"],
                  ["ls", "--all-users"], ["reconcile"], ["reconcile", "--all-users"]):  # fmt: skip
        done = sudo(*words)
        assert done.returncode in (0, 1), (words, done.stderr)
    assert is_alive(mine.pid), "it was ended by a rule of lab's"
    done = sudo("stop", "-s", session)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not is_alive(mine.pid)
    assert is_alive(theirs.pid), "it is another user's"
    assert not MARK.exists(), MARK.read_text()
    assert trap.stdout is not None
    assert not select.select([trap.stdout], [], [], 0)[0], "a bus of lab's was asked"
    canaries.check()
    assert sudo("stop", "-s", session, "--all-users").returncode == 0
    assert not is_alive(theirs.pid)
    canaries.check()
    # the trap works
    subprocess.run(["sh", "-c", "python3"], env={"PATH": f"{TRAP}/bin:{os.defpath}"}, check=True)
    assert MARK.exists()


VICTIMS = ("ours", "missing")


@pytest.mark.usefixtures("rules", "trap")
@pytest.mark.parametrize("what", ["a folder of hers", "a link of hers", "a folder that is missing"])
def test_a_state_folder_of_its_users_is_not_roots(
    keeper: Scopekeeper, session: str, what: str, tmp_path: Path
) -> None:
    """What a state folder says is done: which paths are removed, why something ended."""
    named = TRAP / "planted-state"
    if what == "a folder of hers":
        subprocess.run(as_user("lab", "mkdir", "-m", "700", str(named)), check=True)
    elif what == "a link of hers":
        subprocess.run(as_user("lab", "ln", "-s", str(tmp_path), str(named)), check=True)
    canaries = Canaries(keeper, session)
    mine = keeper.member("-s", session, "--", *FOREVER)
    before = sorted(tmp_path.iterdir())
    for words in (["ls"], ["history"], ["reconcile"], ["stop", "-s", session]):
        call = as_user("lab", shutil.which("sudo") or "sudo", "-n", "-E", "scopekeeper", *words)
        done = subprocess.run(call, env=bare("lab") | {"SCOPEKEEPER_STATE": str(named)}, cwd="/",
                              capture_output=True, text=True, stdin=subprocess.DEVNULL)  # fmt: skip
        print(words, done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
    assert not is_alive(mine.pid), "a bad folder keeps nobody from stopping"
    assert sorted(tmp_path.iterdir()) == before
    if named.is_dir() and not named.is_symlink():
        for each in named.iterdir():
            assert each.owner() == "root", each
    canaries.check()
