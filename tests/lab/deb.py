"""Build the project's .deb in a chroot that has what debian/control asks for, and no network."""

import hashlib
import json
import os
import re
import shutil
import threading
from pathlib import Path

from . import rundir
from .host import Argv, Home, LabError, Note, in_private_namespaces, locked, remove_tree, run_logged
from .image import HERE, Image
from .payload import checkout_files, copy_checkout

# The newest stable release: bookworm's hatchling is too old. What is built runs on both.
SUITE = "trixie"
TOOLS = ("build-essential", "lintian")
MAKE_LIMIT_S = 3600.0
BUILD_LIMIT_S = 1200.0
# The builder's root, the run's folder, and the script that runs in the chroot.
ENTER = """
set -e
mkdir -p "$2/upper/build/out" "$2/scratch/work" "$2/scratch/root"
cd "$2/scratch"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=work" root
mount --rbind /dev root/dev
mount -t proc proc root/proc
mount -t tmpfs tmpfs root/tmp
exec chroot root /usr/bin/env -i PATH=/usr/bin:/usr/sbin bash /build/deb
"""


def wanted(project: Path) -> tuple[str, ...]:
    """Return the packages that a build needs: those of debian/control, and the tools around."""
    control = (project / "debian/control").read_text(encoding="utf-8")
    listed = re.search(r"^Build-Depends:((?:.*\n)(?: .*\n)*)", control, flags=re.MULTILINE)
    if listed is None:
        raise LabError("debian/control has no Build-Depends")
    named = re.sub(r"\([^)]*\)", "", listed[1]).replace("debhelper-compat", "debhelper")
    return tuple(sorted({*re.findall(r"[a-z0-9.+-]+", named), *TOOLS}))


def locate(project: Path, home: Home) -> Image:
    """The builder as it must be now, made or not."""
    content = json.dumps([SUITE, wanted(project)]).encode()
    return Image(SUITE, home.images / f"deb-{hashlib.sha256(content).hexdigest()[:10]}")


def make_builder(project: Path, home: Home, note: Note, stop: threading.Event) -> Image:
    """Return the builder; make it first unless it is in the cache."""
    builder = locate(project, home)
    with locked(builder.lock, stop):
        if builder.info.exists():
            return builder
        work = builder.folder.with_name(f"building-{builder.folder.name}")
        remove_tree(work)
        work.mkdir(parents=True)
        note(f"making {builder.folder.name}; log: {work / 'build.log'}")
        argv: Argv = [
            *("mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory"),
            f"--include={','.join(wanted(project))}",
            *('--aptopt=APT::Install-Recommends "false"', '--aptopt=Acquire::Languages "none"'),
            *(SUITE, work / "root"),
        ]
        run_logged(in_private_namespaces(argv), work / "build.log", MAKE_LIMIT_S, stop)
        (work / "info.json").write_text(json.dumps({"suite": SUITE}) + "\n")
        remove_tree(builder.folder)
        work.rename(builder.folder)
    return builder


def build(project: Path, to: Path, home: Home, note: Note, stop: threading.Event) -> list[Path]:
    """Write the .deb of the checkout into a folder, and return its path."""
    builder = make_builder(project, home, note, stop)
    with locked(builder.lock, stop, shared=True):
        run = rundir.create(home, SUITE, "deb")
        try:
            inputs = run.upper / "build"
            copy_checkout(project, checkout_files(project), inputs / "scopekeeper", 0)
            shutil.copy(HERE / "guest/deb", inputs / "deb")
            enter: Argv = ["unshare", "--net", "sh", "-c", ENTER, "sh", builder.root, run.folder]
            run_logged(in_private_namespaces(enter), run.log, BUILD_LIMIT_S, stop)
            return [_hand_out(path, to) for path in sorted((inputs / "out").glob("*.deb"))]
        finally:
            rundir.discard_inputs(run)


def _hand_out(made: Path, to: Path) -> Path:
    """Copy a file to a folder, which belongs to whoever the folder around it belongs to."""
    around = to.parent.stat()
    to.mkdir(exist_ok=True)
    os.chown(to, around.st_uid, around.st_gid)
    target = to / made.name
    shutil.copy(made, target)
    os.chown(target, around.st_uid, around.st_gid)
    return target
