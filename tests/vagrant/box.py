"""A Vagrant box from a lab image, with all that the provisioning downloads already in it."""

import hashlib
import os
import shutil
import threading
import tomllib
from pathlib import Path

from tests.lab import image, suites
from tests.lab.host import (
    Argv,
    Home,
    Note,
    in_private_namespaces,
    locked,
    remove_tree,
    run_logged,
)

from .chroot import folder_of, public_key

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
INPUTS = ("init", "prepare", "Vagrantfile")
PACKAGES = CHECKOUT / "vagrant" / "packages"
BUILD_LIMIT_S = 1800.0
SIZE = "8G"  # what the guest may fill; the file is sparse, and then compressed

# The image itself is only read: what the box adds lies in a layer of its own until it is a disk.
# The kernel and what finds the disk travel beside it, as the box's Vagrantfile says.
BUILD = """
set -e
image=$1 work=$2
mkdir "$work/upper" "$work/scratch" "$work/root" "$work/box" "$work/initrd"
mount -t overlay overlay \
    -o "lowerdir=$image/root,upperdir=$work/upper,workdir=$work/scratch" "$work/root"
cp -r "$work/inputs" "$work/root/box-build"
cp /etc/resolv.conf "$work/root/etc/resolv.conf"
mount --rbind /dev "$work/root/dev"
mount -t proc proc "$work/root/proc"
mount -t tmpfs tmpfs "$work/root/tmp"
chroot "$work/root" bash /box-build/prepare
umount "$work/root/tmp" "$work/root/proc"
umount -R "$work/root/dev"
rm -rf "$work/root/box-build" "$work/root/etc/resolv.conf"
mke2fs -q -t ext4 -d "$work/root" "$work/raw" "$3"
umount "$work/root"
qemu-img convert -O qcow2 -c "$work/raw" "$work/box/box.img"
rm -rf "$work/raw" "$work/upper" "$work/scratch"
cd "$work/initrd"
zstd -qdc "$image/initrd" | cpio -idm --quiet
cp "$work/inputs/init" init
find . | cpio -o -H newc --quiet | zstd -q -3 -o "$work/box/initrd"
cp "$image/vmlinuz" "$work/inputs/Vagrantfile" "$work/box"
echo '{"provider": "libvirt", "format": "qcow2", "virtual_size": 8}' > "$work/box/metadata.json"
tar -C "$work/box" -czf "$work/box.tar" .
"""


def requirements(checkout: Path = CHECKOUT) -> str:
    """What pip needs to build the project and to install it with its tests, one a line."""
    said = tomllib.loads((checkout / "pyproject.toml").read_text())
    extras = said["project"]["optional-dependencies"]
    lists = (said["build-system"]["requires"], said["project"]["dependencies"])
    return "".join(
        f"{line}\n" for each in (*lists, extras["test"], extras["demo"]) for line in each
    )


def locate(suite: suites.Suite, home: Home) -> Path:
    """The box of a suite as it must be now, built or not."""
    digest = hashlib.sha256(image.content_hash(suite).encode() + requirements().encode())
    for path in (*(HERE / "box" / name for name in INPUTS), PACKAGES, Path(__file__)):
        digest.update(b"\0" + path.read_bytes())
    return folder_of(home) / f"box-{suite.name}-{digest.hexdigest()[:10]}.box"


def build(
    suite: suites.Suite, home: Home, vagrant: Path, note: Note, stop: threading.Event
) -> Path:
    """Return the suite's box; make it first, in some minutes, unless it is in the cache.

    ``vagrant`` is the folder that holds Vagrant, whose well-known key the box lets in.
    """
    box = locate(suite, home)
    with locked(box.with_name(box.name + ".lock"), stop):
        if box.exists():
            return box
        made = image.build(suite, home, note, stop)
        work = box.with_name(f"building-{box.name}")
        remove_tree(work)
        inputs = work / "inputs"
        shutil.copytree(HERE / "box", inputs)
        shutil.copy(PACKAGES, inputs)
        shutil.copy(image.CERTIFICATES, inputs / "ca.crt")
        (inputs / "requirements").write_text(requirements())
        (inputs / "key").write_text(public_key(vagrant))
        log = box.with_name(box.name + ".log")
        note(f"making {box.name}; log: {log}")
        shell: Argv = ["sh", "-c", BUILD, "sh", made.folder, work, SIZE]
        environment = image.environment(os.environ, "/box-build/ca.crt")
        with locked(made.lock, stop, shared=True):
            run_logged(in_private_namespaces(shell), log, BUILD_LIMIT_S, stop, environment)
        (work / "box.tar").rename(box)
        remove_tree(work)
    return box
