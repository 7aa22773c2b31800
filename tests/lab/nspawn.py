"""Boot an image as a systemd-nspawn container: seconds, native speed, the host's kernel."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests import folders

from .host import DIES_WITH_PARENT, Argv, LabError, Note, owner_is_dead
from .image import Image
from .payload import Bind
from .rundir import PREFIX, Run

# systemd-nspawn --keep-unit cannot restart the container itself and exits with this instead.
REBOOT_STATUS = 133
REMOVE_LIMIT_S = 120.0
# Mounted in a mount namespace of the container's own, the overlay ends with it and the host's
# mount table never shows it; and what systemd-nspawn writes below /run, it does not write to the
# host's.  An empty $4 means that a scope unit gave the cgroup.
# It is removed when the run ends, so nothing waits for a disk (volatile, Linux 5.10): OpenClaw
# gives its database up where that takes ten seconds. The kernel leaves a mark, which would refuse
# the next boot.
BOOT = """
set -e
rm -rf "$3/work/work/incompat"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2,workdir=$3/work,volatile" "$3/root"
mount -t tmpfs -o mode=755 tmpfs /run
[ -z "$4" ] || echo $$ > "$4/cgroup.procs"
shift 4
exec "$@"
"""


@dataclass(frozen=True, slots=True)
class Container:
    """One container over ``run``'s upper folder."""

    run: Run
    image: Image
    interactive: bool = False
    binds: tuple[Bind, ...] = ()

    @property
    def boot_limit(self) -> float:
        return 600.0

    def start(self) -> subprocess.Popen[bytes]:
        for name in ("work", "root"):
            (self.run.scratch / name).mkdir(exist_ok=True)
        self.finish()  # a boot before this one may have left processes, and holds the unit's name
        cgroup, prefix = "", scope_command(self.run.name)
        if not prefix:
            path = cgroup_root() / self.run.name
            path.mkdir(exist_ok=True)
            cgroup = str(path)
        paths = (self.image.root, self.run.upper, self.run.scratch, cgroup)
        argv: Argv = [
            *(*prefix, *DIES_WITH_PARENT, "unshare", "--mount"),
            *("sh", "-c", BOOT, "sh", *paths),
            *self._nspawn(),
        ]
        env = os.environ | {
            # The host's layout may be hybrid; the guest's is pure.
            "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
            "SYSTEMD_NSPAWN_LOCK": "0",
        }
        if self.interactive:
            return subprocess.Popen(argv, env=env)
        with self.run.console.open("ab") as console, self.run.host_log.open("ab") as errors:
            return subprocess.Popen(
                argv,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=errors,
                start_new_session=True,
            )

    def _nspawn(self) -> list[str]:
        argv = [
            *("systemd-nspawn", "--quiet", "--boot", f"--directory={self.run.scratch / 'root'}"),
            *("--register=no", "--keep-unit", "--settings=no", "--private-network"),
            *("--resolv-conf=off", "--timezone=off", "--link-journal=no", "--notify-ready=no"),
            *(f"--machine={machine_name(self.run)}", "--hostname=lab"),
            f"--bind={self.run.out}:/lab/out",
            *(f"--bind-ro={each.host}:{each.guest}" for each in self.binds),
        ]
        if self.interactive:
            return [*argv, "--console=interactive"]
        kernel = ("systemd.wants=lab-run.service", "systemd.mask=console-getty.service")
        return [*argv, "--console=read-only", *kernel]

    def wants_another_boot(self, returncode: int) -> bool:
        return returncode == REBOOT_STATUS

    def trouble(self) -> str | None:
        return None

    def finish(self) -> None:
        for path in cgroups_of(self.run.name):
            remove_cgroup(path)


def machine_name(run: Run) -> str:
    """A host name of at most 64 characters that is the run's alone."""
    return "lab-" + "-".join(run.name.split("-")[-3:])


def scope_command(name: str) -> list[str]:
    """Where systemd manages the host's cgroups, ask it for a delegated one instead."""
    if not Path("/run/systemd/system").is_dir():
        return []
    command = ("systemd-run", "--scope", "--quiet", "--collect", "--property=Delegate=yes")
    return [*command, f"--unit={name}.scope"]


def cgroup_root(mounts: Path = Path("/proc/self/mounts")) -> Path:
    """Where the host has cgroup2 mounted, alone or beside the hierarchies of version 1."""
    for line in mounts.read_text().splitlines():
        _, target, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(target)
    raise LabError("the host has no cgroup2 mount, which a container needs; use --vm")


def cgroups_of(name: str) -> Iterator[Path]:
    """The cgroups a run of this name may have had, those that exist."""
    root = cgroup_root()
    for path in (root / name, root / "system.slice" / f"{name}.scope"):
        if path.is_dir():
            yield path


def remove_cgroup(path: Path) -> None:
    """Kill every process below ``path`` and remove it; LabError when it stays."""
    deadline = time.monotonic() + REMOVE_LIMIT_S
    while path.is_dir():
        with suppress(OSError):  # gone meanwhile: ENOENT, or ENODEV once it is open
            (path / "cgroup.kill").write_text("1")
        folders.remove(path)  # the killed need a moment to leave
        if time.monotonic() > deadline:
            raise LabError(f"{path} does not empty")
        time.sleep(0.02)


def sweep(note: Note) -> None:
    """End the containers of runs whose owner was killed: their PID 1 outlives systemd-nspawn."""
    try:
        root = cgroup_root()
    except LabError:
        return  # where there cannot be a container, none was left
    for path in [*root.glob(f"{PREFIX}-*"), *root.glob(f"system.slice/{PREFIX}-*.scope")]:
        if owner_is_dead(path.name.removesuffix(".scope")):
            note(f"removing what a killed run left: {path}")
            remove_cgroup(path)
