"""What another process has put where the state is: it is named, and harms nothing beside it."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    ROOT,
    Scopekeeper,
    eventually,
    is_alive,
    scope_directory,
)

from .guard import UNIT, Keeper
from .manager import state

pytestmark = pytest.mark.systemd

CLAIM = f"owned/{'0' * 16}.claim"


def journal(pid: int) -> str:
    words = ["journalctl", *([] if ROOT else ["--user"]), "--no-pager", "-o", "cat", f"_PID={pid}"]
    return subprocess.run(words, capture_output=True, text=True).stdout


def lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return what a command said on stderr; it has not broken."""
    assert done.returncode in (0, 1), done.stderr
    assert "internal error" not in done.stderr
    return done.stderr.splitlines()


def test_a_fifo_in_the_place_of_a_claim_and_of_the_history_stops_nobody(
    guard: Keeper, keeper: Scopekeeper, session: str, tmp_path: Path
) -> None:
    turn = tmp_path / "turn"
    turn.mkdir()
    other = keeper.member("-s", f"{session}:other", "--", *FOREVER)
    first = keeper.member("-s", session, "--own", str(turn), "--", "sh", "-c", "cat", stdin=-1)
    assert keeper.call("stop", "-s", session).returncode == 0
    first.wait()
    assert not turn.exists()
    (guard.state / "history.db").unlink()
    for name in (CLAIM, "history.db"):
        os.mkfifo(guard.state / name)

    for arguments in (("reconcile",), ("reconcile", "--dry-run"), ("own", "--list")):
        told = lines(keeper.call(*arguments))
        assert [f"{CLAIM}: it is a FIFO" in line for line in told].count(True) == 1, told
    for arguments in (("history",), ("why", session)):
        (told,) = lines(keeper.call(*arguments))
        assert "history.db: it is a FIFO" in told
        assert "mv " in told
    assert lines(keeper.call("ls")) == []
    assert [scope["session"] for scope in keeper.scopes()] == [f"{session}:other"]

    guard.start()
    owner = keeper.popen([*FOREVER])
    orphan = keeper.member("-s", session, "--owner", str(owner.pid), "--", *FOREVER)
    owner.kill()
    owner.wait()
    assert orphan.wait(60) != 0, "the keeper does not end what lost its owner"
    done = keeper.call("stop", "-s", f"{session}:other")
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if "history.db: it is a FIFO" in line]
    assert not is_alive(other.pid)
    eventually(lambda: "history.db: it is a FIFO" in journal(guard.pid))
    assert journal(guard.pid).count(f"{CLAIM}: it is a FIFO") == 1
    assert state(UNIT) == "active"


@pytest.mark.parametrize("through_a_link", [False, True])
def test_a_folder_that_the_state_is_put_into_stays_as_it_is(
    keeper: Scopekeeper,
    session: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    through_a_link: bool,
) -> None:
    shared = Path("/etc") if through_a_link and ROOT else tmp_path / "shared"
    if shared != Path("/etc"):
        shared.mkdir()
        shared.chmod(0o1777)
    (tmp_path / "link").symlink_to(shared)
    before = shared.stat()
    named = tmp_path / "link" if through_a_link else shared
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(named))
    inner = shared / f"scopekeeper-{os.getuid()}"
    try:
        keeper.member("-s", session, "--", *FOREVER)
        assert keeper.call("stop", "-s", session).returncode == 0
        assert keeper.call("history", "-s", session).stdout.count(session) == 1
        assert (shared.stat().st_mode, shared.stat().st_uid) == (before.st_mode, before.st_uid)
        assert inner.stat().st_mode & 0o7777 == 0o700
        assert (inner / "history.db").is_file()
    finally:
        subprocess.run(["rm", "-rf", str(inner)], check=True)
    assert not scope_directory(session)
