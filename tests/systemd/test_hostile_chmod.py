"""A member takes away every permission that it can: it is stopped, and others do not notice."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    MOUNT,
    ROOT,
    Scopekeeper,
    directory_of,
    eventually,
    is_alive,
    record_of,
    rewrite_record,
)

from .canary import Canaries
from .guard import Keeper
from .test_hostile_cgroups import HELP

pytestmark = pytest.mark.systemd

RUNTIME = Path("/run/scopekeeper" if ROOT else f"/run/user/{os.getuid()}/scopekeeper")
CLOSES = """
import os, sys
for top in sys.argv[2:]:
    for folder, _, names in os.walk(top, topdown=False):
        for name in names:
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                os.chmod(path, 0)
        os.chmod(folder, 0)
"""


@pytest.fixture
def reopened(tmp_path: Path) -> Iterator[None]:
    """Give back what was taken away, with the modes that it had."""
    modes = {}
    for top in (RUNTIME, tmp_path):
        for folder, _, names in os.walk(top):
            for each in (folder, *(os.path.join(folder, name) for name in names)):
                modes[each] = stat.S_IMODE(os.lstat(each).st_mode)
    yield
    for path in sorted([*map(str, (RUNTIME, tmp_path)), *modes]):
        if os.path.lexists(path) and not os.path.islink(path):
            os.chmod(path, modes.get(path, 0o700))
    for folder, inner, _ in os.walk(tmp_path):
        for name in inner:
            os.chmod(os.path.join(folder, name), 0o700)


WHAT = ("its cgroups", "the runtime folder", "the state", "the rules", "its owned paths", "all")


@pytest.mark.usefixtures("reopened")
@pytest.mark.parametrize("watched", [True, False], ids=["keeper", "no keeper"])
@pytest.mark.parametrize("what", WHAT)
def test_it_is_stopped_and_nobody_else_is_disturbed(
    guard: Keeper, keeper: Scopekeeper, session: str, tmp_path: Path, what: str, watched: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if watched:
        guard.start()
    monkeypatch.setenv("SCOPEKEEPER_SCRATCH", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    turn = tmp_path / "turn"
    (turn / "inner").mkdir(parents=True)
    (turn / "inner/file").write_text("x")
    guard.policy("")
    canaries = Canaries(keeper, session)
    before = guard.pid
    hostile = keeper.start(
        "-s", session, "-n", "hostile", "--scratch", "--own", str(turn), "--grace=300ms", "--",
        sys.executable, "-c", f"{HELP}\nstay()", MOUNT, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert hostile.stdout is not None
    assert hostile.stdout.readline() == b"ready\n"
    leaf = directory_of(hostile.pid)
    places = {
        "its cgroups": [os.path.dirname(leaf)],
        "the runtime folder": [RUNTIME],
        "the state": [guard.state],
        "the rules": [guard.rules],
        "its owned paths": [turn, tmp_path / "scratch" / f"scopekeeper-{os.geteuid()}"],
    }
    chosen = [each for name in places for each in places[name] if what in (name, "all")]
    words = ("-s", session, "-n", "closes", "--", sys.executable, "-c", CLOSES, MOUNT)
    closed = keeper.run(*words, *map(str, chosen))
    assert closed.returncode == 0, closed.stderr
    for call in (["ls", "--members"], ["ps"], ["why", session], ["history"], ["policy", "show"],
                 ["reconcile"], ["metrics"], ["doctor"], ["status"]):  # fmt: skip
        done = keeper.call(*call)
        assert "Traceback" not in done.stderr, (call, done.stderr)
        assert done.returncode in (0, 1), (call, done.stderr)
        assert len(done.stderr.splitlines()) < 8, done.stderr
    assert is_alive(hostile.pid)
    canaries.check()
    scratch = [] if what in ("the state", "all") and not ROOT else ["--scratch"]
    beside = keeper.run("-s", canaries.session, "-n", "beside", *scratch, "--", "echo", "ran")
    assert (beside.returncode, beside.stdout) == (0, "ran\n"), beside.stderr
    done = keeper.call("stop", "-s", session)
    knows_paths = ROOT or what not in ("the state", "all")
    assert done.returncode == (0 if knows_paths else 1), done.stdout + done.stderr
    assert knows_paths or "owned: Permission denied" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not is_alive(hostile.pid)
    eventually(lambda: not os.path.isdir(os.path.dirname(leaf)))
    canaries.check()
    if watched:
        assert guard.pid == before, "the keeper has failed"
    if knows_paths:
        assert not turn.exists()
        assert not [*(tmp_path / "scratch").glob("*/*hostile*")]


def test_a_members_own_record_without_permissions_does_not_shield_it(
    keeper: Scopekeeper, session: str
) -> None:
    """Its owner has ended: it goes as any other does."""
    canaries = Canaries(keeper, session)
    owner = keeper.popen(list(FOREVER))
    member = keeper.member("-s", session, "--owner", str(owner.pid), "--", *FOREVER)
    leaf = directory_of(member.pid)
    rewrite_record(leaf, **record_of(leaf))
    for folder in (leaf, os.path.dirname(leaf)):
        os.chmod(folder, 0)
    owner.kill()
    owner.wait()
    done = keeper.call("reconcile", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["actions"]
    assert not is_alive(member.pid)
    canaries.check()
