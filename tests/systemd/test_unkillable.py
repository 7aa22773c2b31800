"""A process that cannot be killed is named, with where it waits; it is never called gone."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import Scopekeeper, directory_of, eventually, is_alive, state_of

from .manager import state

pytestmark = [pytest.mark.systemd, pytest.mark.controllers, pytest.mark.machine]
# a file system can be frozen by root, and only where there are loop devices: a virtual machine


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[Path]:
    """Give a file system that is frozen: who writes to it waits in the kernel, uninterruptibly."""
    image, mount = tmp_path / "image", tmp_path / "mount"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(16 << 20)
    mkfs = shutil.which("mkfs.ext4") or "/usr/sbin/mkfs.ext4"
    subprocess.run([mkfs, "-q", "-F", image], check=True)
    subprocess.run(["modprobe", "loop"], check=False)
    subprocess.run(["mount", "-o", "loop", image, mount], check=True)
    subprocess.run(["fsfreeze", "--freeze", mount], check=True)
    try:
        yield mount
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", mount], check=False)
        eventually(lambda: subprocess.run(["umount", mount]).returncode == 0)


def test_stop_names_what_cannot_be_killed_and_later_finishes(
    keeper: Scopekeeper, session: str, frozen: Path
) -> None:
    process = keeper.member("-s", session, "--", "sh", "-c", f"echo x > {frozen}/file")
    eventually(lambda: state_of(process.pid) == "D")
    scope = os.path.dirname(directory_of(process.pid))
    done = keeper.call("stop", "-s", session, "--grace", "200ms")
    assert done.returncode == 5
    assert f"pid {process.pid} in state D" in done.stdout
    wchan = Path(f"/proc/{process.pid}/wchan").read_text()
    assert f"waiting in {wchan}" in done.stdout
    again = keeper.call("stop", "-s", session, "--grace", "200ms", "--json")
    assert again.returncode == 5
    (stopped,) = json.loads(again.stdout)["stopped"]
    assert (stopped["outcome"], stopped["remaining"][0]["pid"]) == ("remains", process.pid)
    assert keeper.call("reconcile").returncode == 5
    assert is_alive(process.pid)
    assert state(os.path.basename(scope)) == "active"
    subprocess.run(["fsfreeze", "--unfreeze", frozen], check=True)
    assert process.wait() in (-signal.SIGTERM, -signal.SIGKILL), "which it meets first"
    eventually(lambda: not os.path.isdir(scope))
