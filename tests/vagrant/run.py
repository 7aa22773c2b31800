"""One run: a copy of the checkout, in a throwaway layer over the folder with Vagrant."""

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.lab import payload, rundir
from tests.lab.host import Argv, Home, LabError, Note, in_private_namespaces

HERE = Path(__file__).resolve().parent
NAME = "bento/ubuntu-24.04"  # what the Vagrantfile asks for
VERDICTS = {0: "passed", 1: "failed"}

# What Vagrant and libvirt write is in the layer, the machine's disk beside it. The network is the
# namespace's own: libvirt's bridge, and nothing beyond it.
ENTER = r"""
set -e
vagrant=$1 work=$2 checkout=$3 box=$4
shift 4
mkdir "$work/upper" "$work/scratch" "$work/root" "$work/images"
mount -t overlay overlay \
    -o "lowerdir=$vagrant,upperdir=$work/upper,workdir=$work/scratch" "$work/root"
mkdir -p "$work/root/srv/checkout" "$work/root/srv/box" "$work/root/var/lib/libvirt/images"
mount --bind "$checkout" "$work/root/srv/checkout"
mount --bind "$box" "$work/root/srv/box"
mount --bind "$work/images" "$work/root/var/lib/libvirt/images"
mount --rbind /dev "$work/root/dev"
mount -t proc proc "$work/root/proc"
mount -t sysfs sys "$work/root/sys"
mount -t tmpfs run "$work/root/run"
exec chroot "$work/root" "$@"
"""


@dataclass(frozen=True, slots=True)
class Request:
    """What to provision from (deb or pip; empty: as the Vagrantfile chooses), and the suites' args.

    ``limit`` is in seconds.
    """

    suite: str
    origin: str
    arguments: tuple[str, ...]
    limit: float


def execute(
    request: Request, home: Home, vagrant: Path, box: Path, project: Path, note: Note
) -> int:
    """Do it, with its output on ours; return the exit status of vagrant/test."""
    run = rundir.create(home, request.suite, "vagrant")
    try:
        checkout = run.upper / "checkout"
        payload.copy_checkout(project, payload.checkout_files(project), checkout, 0)
        for deb in project.glob("dist/scopekeeper_*.deb"):  # git ignores it
            payload.copy_checkout(project, [deb.relative_to(project)], checkout, 0)
        argv: Argv = ["sh", "-c", ENTER, "sh", vagrant, run.scratch, checkout, box.parent]
        argv += ["/srv/checkout/tests/vagrant/session", f"/srv/box/{box.name}", NAME]
        started = time.monotonic()
        status = _attend([*argv, *request.arguments], request)
        told = VERDICTS.get(status, "no verdict")
        note(f"{request.suite}: {told}; {time.monotonic() - started:.0f} s")
        return status
    finally:
        rundir.discard_inputs(run)


def _attend(argv: Argv, request: Request) -> int:
    env = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "TERM": os.environ.get("TERM", "dumb"),
        **({"SCOPEKEEPER_FROM": request.origin} if request.origin else {}),
    }
    command = in_private_namespaces(argv)
    command.insert(command.index("unshare") + 1, "--net")
    process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        return process.wait(request.limit)
    except subprocess.TimeoutExpired:
        raise LabError(f"no verdict within {request.limit:.0f} s", 2) from None
    finally:
        process.kill()  # with it everything in its namespaces
        process.wait()
