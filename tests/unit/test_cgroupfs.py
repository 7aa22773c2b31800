"""What a kernel lacks, and what cannot be read, is no proof that nothing lives."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from scopekeeper.kernel import cgroupfs, proc
from scopekeeper.scope.model import Liveness, Owner
from scopekeeper.scope.snapshot import Reader


def test_a_write_makes_no_file(tmp_path: Path) -> None:
    assert not cgroupfs.write(str(tmp_path), "cgroup.kill", "1")
    assert not list(tmp_path.iterdir())
    (tmp_path / "pids.max").write_text("max")
    assert cgroupfs.write(str(tmp_path), "pids.max", "0")


def test_without_cgroup_kill_each_process_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "1000"]) as child:
        (tmp_path / "cgroup.procs").write_text(f"{child.pid}\n")
        cgroupfs.kill(str(tmp_path))
        assert child.wait(60) == -signal.SIGKILL


@pytest.mark.parametrize(
    ("start", "liveness"), [(0, Liveness.ALIVE), (1, Liveness.GONE)], ids=["same", "reused"]
)
def test_an_owner_lives_while_its_process_does(
    tmp_path: Path, start: int, liveness: Liveness
) -> None:
    assert Reader(str(tmp_path)).owner_state(an_owner(start)).liveness is liveness


def test_an_owner_that_cannot_be_read_is_not_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = an_owner()

    def refuse(_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(proc, "stat_of", refuse)
    state = Reader(str(tmp_path)).owner_state(owner)
    assert state.liveness is Liveness.UNKNOWN
    assert "cannot be read (Operation not permitted)" in state.evidence


def an_owner(later: int = 0) -> Owner:
    """Return this process as an owner, or one that began so many ticks later."""
    began = int(proc.start_time("self")) + later
    return Owner(
        pid=os.getpid(), start_time=began, boot_id=proc.boot_id(), namespaces=proc.namespaces()
    )


def test_a_process_that_ends_while_it_is_read_is_gone() -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        fd = os.open(f"/proc/{process.pid}/status", os.O_RDONLY)
        process.kill()
    try:
        assert cgroupfs.read("/proc/self/fd", str(fd)) is None
    finally:
        os.close(fd)
