"""What travels into a machine: the checkout, the project installed from it, the jobs."""

import os
import shlex
import shutil
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

from .host import Argv, LabError, in_private_namespaces, run_logged
from .image import Image
from .rundir import Run

HERE = Path(__file__).resolve().parent
STAGE_LIMIT_S = 1200.0
UIDS = {"root": 0, "lab": 1000}
# Bytecode and the project's distribution come and go with the chroot; nothing of the host shows.
STAGE = """
set -e
mkdir -p "$3/work" "$3/root"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2,workdir=$3/work" "$3/root"
mount --rbind /dev "$3/root/dev"
mount -t proc proc "$3/root/proc"
mount -t tmpfs tmpfs "$3/root/tmp"
exec chroot "$3/root" /usr/bin/env -i PATH=/usr/bin:/usr/sbin bash /lab/in/stage
"""


@dataclass(frozen=True, slots=True)
class Job:
    """A command to run in the machine as ``user`` (root or lab) in that user's checkout copy."""

    name: str
    user: str
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Bind:
    """A folder of the host that a container sees, read-only, at ``guest``."""

    host: Path
    guest: Path


def bind(text: str) -> Bind:
    """Read ``HOST:GUEST``; LabError says what is wrong with it."""
    host, colon, guest = text.partition(":")
    if not (colon and Path(host).is_absolute() and Path(guest).is_absolute()) or ":" in guest:
        raise LabError(f"{text!r} is not HOST:GUEST, two absolute paths without a colon")
    if not Path(host).is_dir():
        raise LabError(f"{host} is no folder of this host")
    return Bind(Path(host), Path(guest))


@dataclass(frozen=True, slots=True)
class Work:
    """The jobs of a run in their order, seconds for each, and the folders that they find."""

    jobs: tuple[Job, ...]
    limit: float
    binds: tuple[Bind, ...] = ()


def fill(run: Run, image: Image, project: Path, work: Work, stop: threading.Event) -> None:
    """Write everything that is laid over the image's root into the run's upper folder."""
    inputs = run.upper / "lab/in"
    inputs.mkdir(parents=True)
    for name in ("lab-run", "stage"):
        shutil.copy(HERE / "guest" / name, inputs / name)
    (inputs / "settings").write_text(f"LAB_TIMEOUT={work.limit}\n")
    (inputs / "jobs").mkdir()
    for number, job in enumerate(work.jobs):
        path = inputs / "jobs" / f"{number:02}-{job.name}-{job.user}"
        path.write_text(f"exec {shlex.join(job.argv)}\n")
    files = checkout_files(project)
    for user, uid in UIDS.items():
        copy_checkout(project, files, run.upper / f"srv/checkout-{user}", uid)
    if Path("pyproject.toml") in files:
        stage: Argv = ["sh", "-c", STAGE, "sh", image.root, run.upper, run.scratch / "stage"]
        (run.scratch / "stage").mkdir()
        log = run.out / "stage.txt"
        run_logged(in_private_namespaces(stage), log, STAGE_LIMIT_S, stop)
    _install_relay(run, image)


def checkout_files(project: Path) -> list[Path]:
    """The files git tracks or would track, relative to the project's root."""
    git: Argv = ["git", "-C", project, "ls-files", "-z", "-co", "--exclude-standard"]
    done = subprocess.run(git, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise LabError(f"{project} is no git checkout: {done.stderr.strip()}")
    names = [Path(name) for name in done.stdout.split("\0") if name]
    return [name for name in names if os.path.lexists(project / name)]  # not the deleted ones


def copy_checkout(project: Path, files: list[Path], to: Path, uid: int) -> None:
    """Copy ``files`` with their modes and times, and give all of it to ``uid``."""
    made = {to}
    for name in files:
        if (project / name).is_dir() and not (project / name).is_symlink():
            continue  # a submodule's or another checkout's folder
        target = to / name
        target.parent.mkdir(parents=True, exist_ok=True)
        made.update(to / parent for parent in name.parents)
        shutil.copy2(project / name, target, follow_symlinks=False)
        os.chown(target, uid, uid, follow_symlinks=False)
    to.mkdir(parents=True, exist_ok=True)
    for folder in made:
        os.chown(folder, uid, uid)


def _install_relay(run: Run, image: Image) -> None:
    """Make ``-p lab_relay`` work for the inner pytest, without touching its ``sys.path``."""
    (site,) = (image.root / "opt/venv/lib").glob("python3*/site-packages")
    target = run.upper / site.relative_to(image.root) / "lab_relay.py"
    target.parent.mkdir(parents=True, exist_ok=True)
    relay = HERE / "relay.py"
    if relay.exists():
        shutil.copy2(relay, target)
