"""What docs/container.md and docs/kubernetes.md have somebody run, in a real podman.

The image has no files but links: the machine's programs are mounted into it. It lacks an init, so
the shell is PID 1 there.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import is_as_shown
from tests.docs.how_to import block, transcript
from tests.machine import PROGRAM, ROOT, Scopekeeper, cgroup_of, eventually, text_of

pytestmark = [
    pytest.mark.systemd,
    pytest.mark.skipif(not shutil.which("podman"), reason="podman is not installed"),
]

LOOSE = (f"--network={'host' if ROOT else 'none'}", "--pids-limit=0")
"""A container of the lab allows no network of root's own, and no controller."""
PREFIX = str(Path(PROGRAM).parent.parent)
SESSION = "agent:main:pod"


@pytest.fixture
def podman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Make the image, and return how a container of it is started, up to its own options."""
    storage, settings = tmp_path / "storage.conf", tmp_path / "containers.conf"
    places = f'runroot = "{tmp_path}/run"\ngraphroot = "{tmp_path}/graph"\n'
    storage.write_text(f'[storage]\ndriver = "vfs"\n{places}')
    settings.write_text("[containers]\nkeyring = false\n")
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(storage))
    monkeypatch.setenv("CONTAINERS_CONF", str(settings))
    root, more = tmp_path / "root", tmp_path / "bin"
    for name in ("usr", "etc", "run", "tmp", "proc", "sys", "dev", "state", "var", PREFIX[1:]):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("bin", "lib", "lib64", "sbin"):
        (root / name).symlink_to(f"usr/{name}")
    for name in ("resolv.conf", "hosts", "passwd"):
        (root / "etc" / name).write_text("root:x:0:0::/tmp:/bin/sh\n" if name == "passwd" else "")
    more.mkdir()
    (more / "my-gateway").write_text(
        f"#!/bin/sh\nscopekeeper run -s {SESSION} -n files -- sleep 1000003 &\nexec sleep 1000002\n"
    )
    (more / "my-gateway").chmod(0o755)
    subprocess.run(["tar", "-C", root, "-cf", tmp_path / "image.tar", "."], check=True)
    call("podman", "import", str(tmp_path / "image.tar"), "my-image")
    mounts = [f"--volume={place}:{place}:ro" for place in ("/usr", PREFIX) if os.path.exists(place)]
    path = f"--env=PATH={PREFIX}/bin:/here:/usr/bin:/bin"
    yield ["podman", "run", *LOOSE, *mounts, f"--volume={more}:/here:ro", "--tmpfs=/run", path]
    call("podman", "rm", "--all", "--force", "--time", "0")
    remove = ["rm", "-rf", str(tmp_path / "graph"), str(tmp_path / "run")]
    subprocess.run(remove if ROOT else ["podman", "unshare", *remove], check=False)


def call(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


def process(command: str) -> int:
    """Return the one process with this command line, as the machine sees it; 0 if none."""
    found = [entry for entry in os.listdir("/proc") if entry.isdecimal()
             and text_of(f"/proc/{entry}/cmdline") == command]  # fmt: skip
    return int(found[0]) if len(found) == 1 else 0


def contained(container: str) -> None:
    """Wait until a container's gateway has its server; its scope is in its cgroup."""
    server = eventually(lambda: process("sleep\x001000003\0"))
    gateway = process("sleep\x001000002\0")
    path = eventually(lambda: "/m-files." in cgroup_of(server) and cgroup_of(server))
    assert container in path, path
    top = re.match(rf".*{container}[^/]*", cgroup_of(gateway))
    assert top is not None
    assert path.startswith(f"{top[0]}/"), "the scope is in the cgroup of the container"
    assert "/scopekeeper-agent:main:pod-main.scope/" in path


def options(line: str) -> list[str]:
    """Return what the page gives podman, without the init that the machine lacks.

    Root's podman in a machine of the lab needs to be privileged: it may not load BPF programs.
    """
    words = line.split()
    assert words[:3] == ["podman", "run", "--init"]
    given = words[3 : words.index("my-image")]
    return [*given, *(["--privileged"] if ROOT else [])]


def test_a_gateway_is_contained_in_podman(keeper: Scopekeeper, podman: list[str]) -> None:
    line = block("container.md", "Start the container", "sh").strip()
    command = line.partition("my-image ")[2].split()
    container = call(*podman, *options(line), "--detach", "my-image", *command).strip()
    contained(container)
    doctor = subprocess.run(["podman", "exec", container, "scopekeeper", "doctor"],
                            capture_output=True, text=True, timeout=300)  # fmt: skip
    assert doctor.returncode == 1, "usable, with limits"
    (start, _), (stop, expected) = transcript(block("container.md", "Check it", "shell-session"))
    script = f"{start}\nuntil scopekeeper ls -s agent:x:1 | grep -q running; do :; done\n{stop}"
    assert is_as_shown(call("podman", "exec", container, "sh", "-c", script), expected)


def pod() -> tuple[list[str], dict[str, str]]:
    """Return the command of the page's pod without its init, and its environment."""
    text = block("kubernetes.md", "2. Start the pod", "yaml")
    command = json.loads(re.findall(r"^ +command: (\[.*\])$", text, flags=re.MULTILINE)[0])
    assert command[:2] == ["tini", "--"]
    pairs = re.findall(r"- name: (\w+)\n +value: (.*)", text)
    assert pairs
    return command[2:], dict(pairs)


def test_the_command_of_the_pod_contains_its_gateway(
    keeper: Scopekeeper, podman: list[str]
) -> None:
    """The cgroup is mounted as the runtime of the page does it: writable, in its own namespace."""
    command, environment = pod()
    writable = "--privileged" if ROOT else "--security-opt=unmask=/sys/fs/cgroup"
    variables = [f"--env={name}={value}" for name, value in environment.items()]
    more = (writable, *variables, "--tmpfs=/state", "--detach", "my-image")
    container = call(*podman, *more, *command).strip()
    contained(container)
    call("podman", "exec", container, "scopekeeper", "stop", "-s", SESSION)
    assert "history.db" in call("podman", "exec", container, "find", "/state")


@pytest.mark.root  # only root's container can write to the machine's cgroups
def test_in_a_privileged_pod_scopes_stay_in_the_pod(keeper: Scopekeeper, podman: list[str]) -> None:
    command, _ = pod()
    more = ("--privileged", "--cgroupns=host", "--detach", "my-image", *command)
    contained(call(*podman, *more).strip())
