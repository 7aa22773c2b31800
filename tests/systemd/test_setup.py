"""``scopekeeper setup`` on a real manager: all of it is done, and taken back to the byte."""

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    PATIENCE,
    PROGRAM,
    ROOT,
    Scopekeeper,
    cgroup_of,
    eventually,
    is_alive,
)

from .installed import UNIT
from .manager import main_pid, show, state, systemctl

pytestmark = pytest.mark.systemd

HOME = Path("~").expanduser()
UNITS = Path("/etc/systemd/system") if ROOT else HOME / ".config/systemd/user"
"""Where the manager's own user writes units."""
TREES = [HOME, Path("/etc/systemd")]
TREES += (
    [Path("/etc/dbus-1"), Path("/usr/local/share"), Path("/var/lib/scopekeeper")] if ROOT else []
)
STATE = Path("/var/lib/scopekeeper") if ROOT else HOME / ".local/state/scopekeeper"
RUNTIME = Path("/run/scopekeeper" if ROOT else f"/run/user/{os.getuid()}/scopekeeper")
TIMER = "scopekeeper-reconcile.timer"
SERVER = {"command": "sleep", "args": ["6671"]}
CLIENTS = {
    ".cursor/mcp.json": {"mcpServers": {"files": SERVER, "web": {"url": "https://a.example"}}},
    ".gemini/settings.json": {"mcpServers": {"one": SERVER, "two": SERVER}},
}
GATEWAY = "[Service]\nExecStart={program} run -n gateway -- sleep 6672\n"

Call = Callable[..., subprocess.CompletedProcess[str]]


def tree() -> dict[str, object]:
    """Return everything that setup may touch, with modes and the sums of contents."""
    found: dict[str, object] = {}
    for top in TREES:
        if top.exists():
            found[str(top)] = (top.stat().st_mode, "")
        for folder, folders, names in os.walk(top):
            folders[:] = [each for each in folders if each != "__pycache__"]
            for path in (Path(folder, name) for name in [*folders, *names]):
                mode = path.lstat().st_mode
                content = os.readlink(path) if path.is_symlink() else ""
                if path.is_file() and not path.is_symlink():
                    content = hashlib.sha256(path.read_bytes()).hexdigest()
                found[str(path)] = (mode, content)
    return found


def differences(before: dict[str, object], *, history: bool = True) -> set[str]:
    """Return the paths that are not as before; without those of the history that a keeper wrote."""
    now = tree()
    changed = {path for path in before | now if before.get(path) != now.get(path)}
    if history:
        return changed
    theirs = {str(each) for each in (STATE, *STATE.parents)}
    return {path for path in changed - theirs if not path.startswith(f"{STATE}/history.")}


@pytest.fixture
def clients() -> Iterator[None]:
    """Give this user two MCP clients."""
    paths = [HOME / name for name in CLIENTS]
    assert not [path for path in paths if path.parent.exists()]
    for path, data in zip(paths, CLIENTS.values(), strict=True):
        path.parent.mkdir()
        path.write_text(json.dumps(data, indent=3) + "\n\n")
    yield
    for path in paths:
        for each in path.parent.iterdir():
            each.unlink()
        path.parent.rmdir()


@pytest.fixture
def gateway(keeper: Scopekeeper) -> Iterator[str]:
    """Run a gateway that is a service of this manager, and starts in a scope."""
    assert keeper
    name = f"gateway-{os.urandom(4).hex()}.service"
    path = UNITS / name
    made = [each for each in (UNITS, *UNITS.parents) if not each.exists()]
    UNITS.mkdir(parents=True, exist_ok=True)
    path.write_text(GATEWAY.format(program=PROGRAM))
    systemctl("daemon-reload")
    assert systemctl("start", name).returncode == 0
    yield name
    systemctl("stop", name)
    path.unlink()
    drop_ins = path.with_name(f"{name}.d")
    if drop_ins.is_dir():
        shutil.rmtree(drop_ins)
    elif drop_ins.exists():
        drop_ins.unlink()
    for folder in made:
        if not [*folder.iterdir()]:
            folder.rmdir()
    systemctl("daemon-reload")


@pytest.fixture
def call(clients: None, keeper: Scopekeeper) -> Iterator[Call]:
    """Give ``setup`` with the state where a user has it; afterwards nothing is left."""
    aside = STATE.with_name("scopekeeper.aside")
    if STATE.exists():  # of other tests
        systemctl("stop", UNIT)
        STATE.rename(aside)
    for each in RUNTIME.glob("launches*"):  # the ends in it would get into the history
        each.unlink()
    made = [each for each in (STATE, *STATE.parents) if not each.exists()]
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("SCOPEKEEPER_STATE", "XDG_STATE_HOME")}  # fmt: skip
    environment["PATH"] = "/usr/local/bin:/usr/bin:/bin"

    def do(*words: str, **how: object) -> subprocess.CompletedProcess[str]:
        return keeper.call(*words, env=environment, cwd="/", **how)

    yield do
    do("setup", "--undo")
    do("uninstall", "--force")
    systemctl("stop", UNIT)
    for folder in made:
        if folder == STATE:
            shutil.rmtree(folder, ignore_errors=True)
        elif folder.exists():
            folder.rmdir()
    if aside.exists():
        aside.rename(STATE)


def succeeds(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_all_is_contained_and_taken_back_to_the_byte(
    call: Call, gateway: str, keeper: Scopekeeper
) -> None:
    before = tree()
    said = succeeds(call("setup", "--dry-run"))
    assert re.search(r"Cursor +wrap 1 server +~/\.cursor/mcp\.json\n", said)
    for words in ("wrap 2 servers", "keeper", gateway):
        assert words in said
    assert not differences(before)
    status = call("status", "--json")
    assert (status.returncode, json.loads(status.stdout)["contained"]) == (1, False)

    pid = main_pid(gateway)
    done = call("setup", "--yes")
    said = succeeds(done)
    assert "Checked: scopekeeper works" in said
    assert "former unit" not in done.stderr, "the keeper was started with this one"
    option = "" if ROOT else " --user"
    assert f"  {gateway} (pid {pid}): systemctl{option} restart {gateway}\n" in said
    assert (UNITS / f"{gateway}.d/10-scopekeeper.conf").exists()
    assert state(TIMER) == "active"
    assert main_pid(gateway) == pid, "nothing that runs is touched"
    assert "10-scopekeeper.conf" in show(gateway, "DropInPaths")

    server = json.loads((HOME / ".cursor/mcp.json").read_text())["mcpServers"]["files"]
    member = keeper.popen([server["command"], *server["args"]], stdin=subprocess.DEVNULL)
    eventually(lambda: "/scopekeeper-" in cgroup_of(member.pid))
    eventually(lambda: state(UNIT) == "active")
    status = call("status", "--json")
    document = json.loads(succeeds(status))
    rows = {each["what"]: each for each in document["found"]}
    assert {each["state"] for each in rows.values()} == {"contained"}
    assert rows[gateway]["processes"] == 1
    assert document["runs"]["scopes"] == 2
    member.terminate()
    member.wait(PATIENCE)

    assert succeeds(call("setup", "--yes")).endswith("Nothing to do.\n")
    said = succeeds(call("setup", "--undo"))
    assert said.count("restored to the byte") == 2
    assert f"left: {STATE}, with the history of what ended" in said
    assert not differences(before, history=False)
    assert is_alive(pid)
    assert state(TIMER) == "inactive"
    assert show(UNIT, "LoadState") == ("loaded" if _packaged() else "not-found")


def _packaged() -> bool:
    return Path("/usr/lib/systemd/user", UNIT).exists()


def test_setup_and_undo_leave_the_tree_as_it_was(call: Call) -> None:
    before = tree()
    succeeds(call("setup", "--yes"))
    assert differences(before)
    succeeds(call("setup", "--undo"))
    assert not differences(before)


def test_what_was_installed_by_hand_before_stays(call: Call, gateway: str) -> None:
    succeeds(call("install", "--gateway", gateway))
    before = tree()
    said = succeeds(call("setup", "--yes"))
    assert re.search(rf"Contained already: .*keeper.*{re.escape(gateway)}", said)
    assert differences(before)
    succeeds(call("setup", "--undo"))
    assert not differences(before, history=False)
    assert state(TIMER) == "active"
    succeeds(call("uninstall"))


def test_a_drop_in_that_was_edited_since_stays_and_is_named(call: Call, gateway: str) -> None:
    before = tree()
    succeeds(call("setup", "--yes"))
    path = UNITS / f"{gateway}.d/10-scopekeeper.conf"
    path.write_text(path.read_text() + "# mine\n")
    assert f"left: {path}: kept: it was edited" in succeeds(call("setup", "--undo"))
    assert differences(before, history=False) == {str(path), str(path.parent)}


def test_half_of_it_fails_and_the_rest_is_done_recorded_and_undone(
    call: Call, gateway: str
) -> None:
    in_the_way = HOME / ".cursor/mcp.json.before-scopekeeper"
    in_the_way.mkdir()
    before = tree()
    done = call("setup", "--yes")
    assert done.returncode == 1
    assert f"scopekeeper: not done: Cursor: {in_the_way}: is in the way" in done.stderr
    assert state(TIMER) == "active"
    assert (UNITS / f"{gateway}.d").is_dir()
    assert "scopekeeper" in (HOME / ".gemini/settings.json").read_text()
    succeeds(call("setup", "--undo"))
    assert not differences(before, history=False)
    in_the_way.rmdir()


def test_a_unit_that_holds_a_terminal_is_not_taken_away(call: Call, session: str) -> None:
    succeeds(call("setup", "--yes"))
    run = succeeds(call("exec", "-d", "-s", session, "--", *FOREVER)).strip()
    done = call("setup", "--undo")
    assert done.returncode == 1
    assert f"the run {run} of {session}" in done.stderr
    assert "leave them behind as they are with `scopekeeper uninstall --force`" in done.stderr
    assert state(UNIT) == "active"
    succeeds(call("stop", "-s", session))
    assert "files removed" in succeeds(call("setup", "--undo"))
    assert state(UNIT) == "inactive"
