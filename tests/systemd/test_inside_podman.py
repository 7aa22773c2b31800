"""scopekeeper inside of containers of a real podman, made from the machine's own files."""

import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import folders
from tests.machine import PROGRAM, end_cgroup, eventually, text_of

pytestmark = [
    pytest.mark.systemd,
    pytest.mark.root,  # for a container of the machine's own files
    pytest.mark.skipif(not shutil.which("podman"), reason="podman is not installed"),
]

MOUNT = "/sys/fs/cgroup"
TELL = "sed -n s/^0:://p /proc/self/cgroup"
USER = "1000"
FILES = ("", "/cgroup.procs", "/cgroup.subtree_control", "/cgroup.threads")


class Inside:
    """A container, whose first process sleeps."""

    def __init__(self, *options: str, command: tuple[str, ...] = ("sleep", "infinity")) -> None:
        self.name = f"inside-{uuid.uuid4().hex[:8]}"
        # a container of the lab allows no network, no controller and no BPF
        loose = ("--network=host", "--pids-limit=0", "--privileged", "--init=false")
        podman("run", "-d", "--name", self.name, *loose, *options, "--rootfs", "/:O", *command)

    def do(self, *command: str, user: str = "0") -> subprocess.CompletedProcess[str]:
        """Do a command inside to its end."""
        argv = ["podman", "exec", "-u", user, self.name, *command]
        return subprocess.run(argv, capture_output=True, text=True, timeout=300)

    def call(self, *words: str, user: str = "0") -> subprocess.CompletedProcess[str]:
        """Complete a command of the program inside."""
        return self.do(PROGRAM, *words, user=user)

    def background(self, *words: str, ready: str, user: str = "0") -> None:
        """Start a command of the program inside, and wait until its command's argument shows."""
        podman("exec", "-d", "-u", user, self.name, PROGRAM, *words)
        eventually(lambda: pids_of(ready))

    @property
    def cgroup(self) -> str:
        """Its own cgroup, as the machine names it."""
        pid = podman("inspect", "--format", "{{.State.Pid}}", self.name).strip()
        return cgroup_path(int(pid))

    def remove(self) -> None:
        """Remove it, with what runs in it."""
        podman("rm", "--force", "--time", "0", "--ignore", self.name)


def podman(*words: str) -> str:
    done = subprocess.run(["podman", *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def cgroup_path(pid: int) -> str:
    """Return the cgroup of a process, as the machine names it."""
    found = re.search("^0::(.*)$", text_of(f"/proc/{pid}/cgroup"), re.MULTILINE)
    return found[1] if found else ""


def pids_of(argument: str) -> list[int]:
    """Return the processes whose command is ``sleep`` with this argument."""
    wanted = f"sleep\0{argument}\0"
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]
    return [pid for pid in pids if text_of(f"/proc/{pid}/cmdline") == wanted]


def length() -> str:
    """Return a number of seconds that no other process sleeps."""
    return str(10**6 + uuid.uuid4().int % 10**6)


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Inside]]:
    """Give what starts a container; all of them are removed afterwards."""
    storage, settings = tmp_path / "storage.conf", tmp_path / "containers.conf"
    places = f'runroot = "{tmp_path}/run"\ngraphroot = "{tmp_path}/graph"\n'
    storage.write_text(f'[storage]\ndriver = "vfs"\n{places}')
    settings.write_text("[containers]\nkeyring = false\n")
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(storage))
    monkeypatch.setenv("CONTAINERS_CONF", str(settings))
    made: list[Inside] = []

    def start(*options: str, **how: tuple[str, ...]) -> Inside:
        made.append(Inside(*options, **how))
        return made[-1]

    yield start
    for each in made:
        each.remove()


def keepers(container: Inside) -> list[str]:
    """Return the command lines of the keepers in a container."""
    lines = container.do("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").stdout
    return re.findall("keeper --standalone", lines)


def checks(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Return the lines of ``doctor``, by check, with what follows each."""
    parts = re.split(r"^(ok|note|limit|fail) +([\w]+) +", done.stdout, flags=re.MULTILINE)[1:]
    return {name: f"{status} {text}" for status, name, text in zip(*[iter(parts)] * 3, strict=True)}


@pytest.mark.parametrize("more", [(), ("--pid=host",)], ids=["", "nor a PID namespace"])
def test_without_a_cgroup_namespace_scopes_stay_in_the_containers_own_cgroup(
    inside: Callable[..., Inside], more: tuple[str, ...]
) -> None:
    container, seconds = inside("--cgroupns=host", *more), length()
    container.background("run", "-s", "h", "--", "sleep", seconds, ready=seconds)
    (pid,) = pids_of(seconds)
    own = container.cgroup
    assert cgroup_path(pid).startswith(f"{own}/scopekeeper/scopekeeper-h-main.scope/m-sleep.")
    found = checks(container.call("doctor"))
    assert found["placement"].startswith(f"ok new scopes go to cgroup {MOUNT}{own}/scopekeeper\n")
    assert found["cgroupns"].startswith("limit")
    assert "--cgroupns=private" in found["cgroupns"]
    assert found["trial"].startswith("ok")
    # the keeper is in a cgroup beside the scopes, and finds them from there
    assert container.call("exec", "-d", "-s", "k", "--", "sleep", "infinity").returncode == 0
    keepers = Path(f"{MOUNT}{own}/scopekeeper/scopekeeper-keeper/cgroup.procs")
    assert keepers.read_text().split()
    assert not os.path.exists(f"{MOUNT}/scopekeeper")
    podman("pause", container.name)
    events = Path(f"{MOUNT}{cgroup_path(pid)}/cgroup.events")
    assert "frozen 1" in eventually(lambda: "frozen 1" in events.read_text() and events.read_text())
    podman("unpause", container.name)
    done = container.call("stop", "-s", "h")
    assert done.returncode == 0, done.stderr
    assert not pids_of(seconds)
    container.remove()
    eventually(lambda: not os.path.exists(MOUNT + own))


def test_what_an_ended_container_left_is_removed_and_what_a_living_one_made_is_not(
    inside: Callable[..., Inside],
) -> None:
    folder, seconds = f"{MOUNT}/left-{uuid.uuid4().hex[:8]}", length()
    placed = ("run", "--placement", f"cgroup:{folder}", "-s")
    ended, lives = inside("--cgroupns=host"), inside("--cgroupns=host")
    os.mkdir(folder)
    try:
        for name, container in (("ended", ended), ("lives", lives)):
            assert container.call(*placed, f"left:{name}", "--", "true").returncode == 0
        lives.background(*placed, "left:runs", "--", "sleep", seconds, ready=seconds)
        ended.remove()
        assert subprocess.run([PROGRAM, "reconcile"], timeout=300).returncode == 0
        left = [name for name in os.listdir(folder) if name.endswith(".scope")]
        assert sorted(left) == [
            "scopekeeper-left:lives-main.scope",
            "scopekeeper-left:runs-main.scope",
        ]
        assert pids_of(seconds)
        lives.remove()
        assert subprocess.run([PROGRAM, "reconcile"], timeout=300).returncode == 0
        assert not [name for name in os.listdir(folder) if name.endswith(".scope")]
        history = subprocess.run([PROGRAM, "history", "--json"], capture_output=True, text=True)
        assert "left:" not in history.stdout, "what ran there is no end of this machine"
    finally:
        lives.remove()
        end_cgroup(folder)
        eventually(lambda: folders.remove(folder))


def test_the_command_that_doctor_names_gives_a_cgroup_namespace(
    inside: Callable[..., Inside],
) -> None:
    said = checks(inside("--cgroupns=host").call("doctor"))["cgroupns"]
    start = re.search(r"(unshare .*) sh COMMAND", " ".join(said.split()))
    assert start
    seconds = length()
    then = f"{PROGRAM} run -s own -- sleep {seconds}"
    container = inside("--cgroupns=host", command=("sh", "-c", f"exec {start[1]} sh {then}"))
    (pid,) = eventually(lambda: pids_of(seconds))
    found = eventually(lambda: "/scopekeeper/" in cgroup_path(pid) and cgroup_path(pid))
    assert found.startswith(f"{container.cgroup.partition('/scopekeeper/')[0]}/scopekeeper/")


def test_with_a_cgroup_namespace_scopes_are_at_its_top(inside: Callable[..., Inside]) -> None:
    container = inside("--cgroupns=private")
    said = container.call("run", "-s", "p", "--", "sh", "-c", TELL).stdout
    assert said.startswith("/scopekeeper/scopekeeper-p-main.scope/m-sh.")
    found = checks(container.call("doctor"))
    assert "cgroupns" not in found
    assert "new scopes go to cgroup /sys/fs/cgroup/scopekeeper\n" in found["placement"]
    # an entrypoint that has moved to a cgroup of its own, so that controllers can be enabled
    moved = f"mkdir {MOUNT}/init; echo $$ > {MOUNT}/init/cgroup.procs; exec "
    launch = f"{PROGRAM} run -s q -- {TELL}"
    assert container.do("sh", "-c", moved + launch).stdout.startswith("/scopekeeper/")


@pytest.mark.parametrize("namespace", ["private", "host"])
def test_doctors_cure_for_a_user_in_a_container_is_one(
    inside: Callable[..., Inside], namespace: str
) -> None:
    container = inside(f"--cgroupns={namespace}")
    own = MOUNT + (container.cgroup if namespace == "host" else "")
    refused = container.call("exec", "-d", "--", "sleep", "5", user=USER)
    assert refused.returncode == 125
    assert refused.stderr.count("\n") == 1
    assert not keepers(container), "one was started for a run that is refused"
    found = checks(container.call("doctor", user=USER))["placement"]
    assert "RestrictAddressFamilies" not in found
    cure = found.partition("as root in the container: ")[2].splitlines()[0]
    assert cure == f"chown {USER} {' '.join(own + file for file in FILES)}"
    assert container.do("sh", "-c", cure).returncode == 0
    assert container.call("run", "-s", "u", "--", "true", user=USER).returncode == 0
    assert checks(container.call("doctor", user=USER))["trial"].startswith("ok")


def test_a_cgroup_that_a_user_may_not_move_to_is_refused_with_the_reason(
    inside: Callable[..., Inside],
) -> None:
    container, folder = inside("--cgroupns=private"), f"{MOUNT}/foo"
    placement = ("--placement", f"cgroup:{folder}")
    refused = container.call("run", *placement, "--", "true", user=USER)
    assert refused.returncode == 125
    cure = f"mkdir -p {folder}"
    assert f"the cgroup {folder} does not exist; make it first: {cure}" in refused.stderr
    assert container.do("sh", "-c", cure).returncode == 0
    refused = container.call("run", *placement, "--", "true", user=USER)
    for most in (f"uid {USER}; delegate it: ", f"write access to {MOUNT}/cgroup.procs; "):
        assert most in refused.stderr
        found = checks(container.call("doctor", *placement, user=USER))["placement"]
        assert found.startswith("fail")
        cure = re.search("chown [^,\n]*", refused.stderr.partition(most)[2])[0]
        for words in (("run",), ("exec", "-d")):
            refused = container.call(*words, *placement, "-s", "a", "--", "true", user=USER)
            assert refused.returncode == 125
            assert refused.stderr.count("\n") == 1
        assert not [each for each in os.scandir(MOUNT + container.cgroup + "/foo") if each.is_dir()]
        assert not keepers(container)
        assert container.do("sh", "-c", cure).returncode == 0, cure
        refused = container.call("run", *placement, "-s", "a", "--", "true", user=USER)
    assert refused.returncode == 0, refused.stderr
    found = checks(container.call("doctor", *placement, user=USER))
    assert found["placement"].startswith(f"ok new scopes go to cgroup {folder} (")
    history = container.call("history", "--json", user=USER).stdout
    assert '"exit_status": 125' not in history, "the command never ran"


@pytest.mark.parametrize("wrong", ["nonsense", "cgroup:/nope", f"cgroup:{MOUNT}/nope"])
def test_doctor_checks_the_placement_of_its_environment(
    inside: Callable[..., Inside], wrong: str
) -> None:
    container = inside("--cgroupns=private")
    for words in (("env", f"SCOPEKEEPER_PLACEMENT={wrong}", PROGRAM, "doctor"),
                  (PROGRAM, "doctor", "--placement", wrong)):  # fmt: skip
        done = container.do(*words)
        assert done.returncode == 2
        assert checks(done)["placement"].startswith("fail")
    container.do("mkdir", f"{MOUNT}/bar")
    done = container.call("doctor", "--placement", f"cgroup:{MOUNT}/bar")
    assert checks(done)["placement"].startswith(f"ok new scopes go to cgroup {MOUNT}/bar (")


@pytest.mark.controllers
def test_doctors_cure_for_missing_controllers_is_one(inside: Callable[..., Inside]) -> None:
    found = checks(inside("--cgroupns=private").call("doctor"))["controllers"]
    cure = found.partition("in the container: ")[2].splitlines()[0]
    assert cure.startswith(f"mkdir -p {MOUNT}/init; "), found
    seconds = length()
    container = inside("--cgroupns=private", command=("sh", "-c", f"{cure}; exec sleep {seconds}"))
    eventually(lambda: pids_of(seconds))
    assert checks(container.call("doctor"))["controllers"].startswith("ok")
    shown = f"cat {MOUNT}$({TELL})/../memory.max {MOUNT}$({TELL})/../pids.max"
    limits = ("--memory-max", "50M", "--tasks-max", "20")
    done = container.call("run", "-s", "m", *limits, "--", "sh", "-c", shown)
    assert (done.stdout, done.stderr) == (f"{50 << 20}\n20\n", "")


def test_a_readonly_hierarchy_gets_its_cure(inside: Callable[..., Inside]) -> None:
    container = inside("--cgroupns=private", f"--volume={MOUNT}:{MOUNT}:ro")
    done = container.call("run", "-s", "r", "--", "true")
    assert done.returncode == 125
    assert "unmask=/sys/fs/cgroup" in done.stderr, done.stderr
