"""The container of a real podman ends with its member."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import PROGRAM, Scopekeeper, cgroup_of, eventually, is_alive, text_of

pytestmark = [
    pytest.mark.systemd,
    pytest.mark.skipif(not shutil.which("podman"), reason="podman is not installed"),
]

MOVES = os.geteuid() != 0 and "version 4" in subprocess.getoutput("podman --version")
"""Whether podman moves itself into a scope of its own: before version 5, as a user."""
LOOSE = ("--network=host", "--pids-limit=0", *(("--privileged",) if os.geteuid() == 0 else ()))
"""A container of the lab allows no network, no controller and no BPF."""


def podman(*words: str) -> str:
    done = subprocess.run(["podman", *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Make an image of one file, in a storage of its own."""
    storage, settings = tmp_path / "storage.conf", tmp_path / "containers.conf"
    places = f'runroot = "{tmp_path}/run"\ngraphroot = "{tmp_path}/graph"\n'
    storage.write_text(f'[storage]\ndriver = "vfs"\n{places}')
    settings.write_text("[containers]\nkeyring = false\n")
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(storage))
    monkeypatch.setenv("CONTAINERS_CONF", str(settings))
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state"))
    (tmp_path / "root").mkdir()
    shutil.copy("/bin/busybox", tmp_path / "root" / "sleep")
    subprocess.run(["tar", "-C", tmp_path / "root", "-cf", tmp_path / "image.tar", "."], check=True)
    podman("import", str(tmp_path / "image.tar"), "tiny")
    yield "tiny"
    podman("rm", "--all", "--force", "--time", "0")
    # files of a user's container belong to her other uids
    remove = ["rm", "-rf", str(tmp_path / "graph"), str(tmp_path / "run")]
    subprocess.run(remove if os.geteuid() == 0 else ["podman", "unshare", *remove], check=False)


def processes_of(image_command: str) -> list[int]:
    """Return the processes with this command line."""
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]
    return [pid for pid in pids if text_of(f"/proc/{pid}/cmdline") == image_command]


@pytest.mark.parametrize("more", [(), ("--cgroups=split",)], ids=["its-own-scope", "split"])
@pytest.mark.parametrize("how", ["stop", "crash"])
def test_the_container_ends_with_the_member(
    keeper: Scopekeeper, session: str, image: str, more: tuple[str, ...], how: str
) -> None:
    length = str(10**6 + os.getpid())
    command = f"/sleep\0{length}\0"
    words = ("podman", "run", "-i", "--rm", *LOOSE, *more, image, "/sleep", length)
    member = keeper.member("-s", session, "--", *words, stdin=subprocess.PIPE)
    (pid,) = eventually(lambda: processes_of(command))
    stays = "m-podman" in cgroup_of(member.pid)
    assert stays or MOVES, "the client has left its member"
    if stays:
        assert ("m-podman" in cgroup_of(pid)) is bool(more)
    assert subprocess.run([PROGRAM, "reconcile"]).returncode == 0
    assert is_alive(pid), "it was ended although its client lives"
    if how == "stop":
        done = keeper.call("stop", "-s", session, *([] if stays else ["--escaped"]))
        assert done.returncode == 0, done.stdout + done.stderr
    else:
        leaf = cgroup_of(member.pid).rpartition("/m-podman")
        if stays:
            Path(f"/sys/fs/cgroup{leaf[0]}/cgroup.kill").write_text("1")
        else:
            member.kill()
        member.wait()
        assert more or is_alive(pid)

        def is_over() -> bool:
            return subprocess.run([PROGRAM, "reconcile"]).returncode == 0 and not is_alive(pid)

        eventually(is_over)
    assert not is_alive(pid)
    assert podman("ps", "--all", "--quiet") == ""
