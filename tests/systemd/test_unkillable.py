"""A process that cannot be killed is named, with where it waits; it is never called gone."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import PATIENCE, Scopekeeper, directory_of, eventually, is_alive, state_of

from .canary import Canaries
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


HANGS = """
import ctypes, os, struct, sys
device = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
libc = ctypes.CDLL(None, use_errno=True)
if libc.mount(b"hangs", sys.argv[1].encode(), b"fuse", 0, options):
    raise OSError(ctypes.get_errno(), "mount")
asked = os.read(device, 1 << 20)  # FUSE_INIT
(unique,) = struct.unpack_from("Q", asked, 8)
told = struct.pack("IIIIHHIIHHI28x", 7, 31, 0, 0, 8, 8, 1 << 12, 1, 1, 0, 0)
os.write(device, struct.pack("IiQ", 16 + len(told), 0, unique) + told)
print("mounted", flush=True)
while True:
    os.read(device, 1 << 20)  # and nothing is ever answered
"""


@pytest.fixture
def hanging(keeper: Scopekeeper, tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """Give a file system whose server takes requests and answers none, and that server."""
    subprocess.run(["modprobe", "fuse"], check=False)
    if not os.path.exists("/dev/fuse"):
        pytest.fail("there is no /dev/fuse: a file system that hangs is not tested here")
    mount = tmp_path / "hanging"
    mount.mkdir()
    server = keeper.popen([sys.executable, "-c", HANGS, str(mount)], stdout=subprocess.PIPE)
    assert server.stdout is not None
    assert server.stdout.readline() == b"mounted\n"
    yield mount, server
    server.kill()
    server.wait()
    subprocess.run(["umount", "-l", mount], check=False)


def test_what_waits_for_a_file_system_that_hangs_is_named_and_holds_up_nobody(
    keeper: Scopekeeper, session: str, hanging: tuple[Path, subprocess.Popen[bytes]]
) -> None:
    canaries = Canaries(keeper, session)
    mount, server = hanging
    process = keeper.member("-s", session, "--", "cat", f"{mount}/file")
    scope = os.path.dirname(directory_of(process.pid))
    for words in (["ls", "--members"], ["ps"], ["ports"], ["reconcile"], ["metrics"]):
        done = keeper.call(*words)
        assert done.returncode == 0, done.stderr
    done = keeper.call("stop", "-s", session, "--grace", "200ms")
    assert done.returncode == 5, done.stdout
    assert f"pid {process.pid} in state D" in done.stdout
    assert is_alive(process.pid)
    canaries.check()
    server.kill()
    server.wait()
    assert process.wait(PATIENCE) in (-signal.SIGTERM, -signal.SIGKILL)
    eventually(lambda: not os.path.isdir(scope))
    canaries.check()


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
