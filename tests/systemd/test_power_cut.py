"""The power is cut while scopes own paths; the machine that boots then removes them, once.

One test in two boots: see "What is in a machine" in tests/lab/README.md.
"""

import ctypes
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    PROGRAM,
    Scopekeeper,
    eventually,
    is_alive,
    text_of,
    wait_for_command,
)

from .guard import Keeper
from .manager import uid_of
from .test_callers import bare
from .test_keeper import living
from .test_other_users import as_user

pytestmark = [
    pytest.mark.systemd, pytest.mark.root, pytest.mark.controllers, pytest.mark.machine,
]  # fmt: skip

ROOM = Path("/var/tmp/scopekeeper-power-cut")
"""Not below /tmp, which may be in memory."""
LEFT, USED, THEIRS = ROOM / "left", ROOM / "used", ROOM / "lab" / "theirs"
LAB = uid_of("lab")
RESTART = 0x01234567
"""LINUX_REBOOT_CMD_RESTART, reboot(2)."""
SESSION = "power-cut"


def boot() -> str:
    """Return what no other boot has."""
    return text_of("/proc/sys/kernel/random/boot_id")


@pytest.fixture
def room(guard: Keeper, monkeypatch: pytest.MonkeyPatch, expendable: None) -> Path:
    """Keep the claims where the next boot finds them."""
    guard.state = ROOM / "state"
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(guard.state))
    return ROOM


def test_what_was_owned_when_the_power_failed_is_removed_once_and_what_is_used_stays(
    guard: Keeper, keeper: Scopekeeper, room: Path
) -> None:
    if not room.exists():
        own_and_cut(guard, keeper)
    try:
        assert text_of(room / "boot") not in ("", boot())
        look_after_the_cut(guard, keeper)
    finally:
        shutil.rmtree(room)


def own_and_cut(guard: Keeper, keeper: Scopekeeper) -> None:
    """Start what owns paths, and cut the power the moment that it runs."""
    for folder in (LEFT, USED, THEIRS):
        folder.mkdir(parents=True)
        (folder / "mcp.json").write_text("{}")
    for path in (THEIRS.parent, THEIRS, THEIRS / "mcp.json"):
        os.chown(path, LAB, LAB)
    (ROOM / "boot").write_text(boot())
    guard.start()
    keeper.member("-s", SESSION, "-n", "seen", "--", *FOREVER)
    eventually(lambda: "seen" in living(guard.state / "history.db"))
    os.sync()  # not after the launches: that the claims are on the disk is for them to see to
    theirs = keeper.argv("-s", SESSION, "--own", str(THEIRS), "--", *FOREVER)
    wait_for_command(keeper.popen(as_user("lab", *theirs), env=bare("lab"), cwd="/"))
    for path in (LEFT, USED):
        keeper.member("-s", SESSION, "-n", path.name, "--own", str(path), "--", *FOREVER)
    # it writes nothing back either; from sysrq's b QEMU 7.2 did not come back with Linux 6.1
    ctypes.CDLL(None).reboot(RESTART)
    eventually(lambda: False)  # nothing comes after it


def look_after_the_cut(guard: Keeper, keeper: Scopekeeper) -> None:
    """See what becomes of the paths in the next boot."""
    for folder in (LEFT, USED, THEIRS):
        assert (folder / "mcp.json").read_text() == "{}"
    claims = guard.state / "owned"
    assert len(list(claims.glob("*.claim"))) == 2
    again = keeper.member("-s", SESSION, "-n", "used", "--own", str(USED), "--", *FOREVER)
    guard.start()
    eventually(lambda: not LEFT.exists())
    assert "seen" in {each["member"] for each in guard.ends(SESSION) if each["reason"] == "reboot"}
    assert (THEIRS / "mcp.json").exists(), "it is not root's to remove"
    assert reconcile_of_lab() == [(str(THEIRS), "removed")]
    assert not THEIRS.exists()
    for folder in (LEFT, THEIRS):
        folder.mkdir()  # others, of the same names
    first = guard.pid
    os.kill(first, 9)
    eventually(lambda: guard.pid not in (0, first))
    assert keeper.call("reconcile").returncode == 0
    assert reconcile_of_lab() == []
    assert LEFT.exists()
    assert THEIRS.exists()
    assert (USED / "mcp.json").read_text() == "{}"
    assert is_alive(again.pid)
    again.kill()
    again.wait()
    eventually(lambda: not USED.exists())
    eventually(lambda: not list(claims.glob("*.claim")))
    assert LEFT.exists()


def reconcile_of_lab() -> list[tuple[str, str]]:
    """Have lab reconcile; return the paths that were due, and what became of them."""
    done = subprocess.run(
        as_user("lab", PROGRAM, "reconcile", "--json"), env=bare("lab"), cwd="/",
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return [(each["path"], each["outcome"]) for each in json.loads(done.stdout)["owned"]]
