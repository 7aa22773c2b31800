"""A folder with Vagrant, libvirt and QEMU in it, so that nothing is installed on the host."""

import hashlib
import json
import os
import threading
from pathlib import Path

from tests.lab.host import (
    Argv,
    Home,
    Note,
    in_private_namespaces,
    locked,
    remove_tree,
    run_logged,
)
from tests.lab.image import environment

RELEASE = "bookworm"  # Debian 13 has no Vagrant
PACKAGES = (
    *("vagrant", "vagrant-libvirt", "libvirt-daemon-system", "libvirt-daemon-driver-qemu"),
    *("libvirt-clients", "qemu-system-x86", "qemu-utils", "dnsmasq-base", "iptables", "iproute2"),
    *("openssh-client", "rsync", "procps", "dbus", "ca-certificates", "kmod"),
)
# libvirt expects a host with systemd, AppArmor and users of its own; here it is alone and root.
QEMU_CONF = """\
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
remember_owner = 0
"""
BUILD_LIMIT_S = 1800.0


def folder_of(home: Home) -> Path:
    """Where everything of Vagrant's is kept."""
    return home.root / "vagrant"


def _mmdebstrap(root: Path) -> Argv:
    return [
        *("mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory"),
        f"--include={','.join(PACKAGES)}",
        *('--aptopt=APT::Install-Recommends "false"', '--aptopt=Acquire::Languages "none"'),
        *(f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("man", "doc", "locale")),
        *(RELEASE, root),
    ]


def locate(home: Home) -> Path:
    """The folder as it must be now, built or not."""
    recipe = json.dumps([[str(word) for word in _mmdebstrap(Path("root"))], QEMU_CONF])
    return folder_of(home) / f"host-{hashlib.sha256(recipe.encode()).hexdigest()[:10]}"


def build(home: Home, note: Note, stop: threading.Event) -> Path:
    """Return the folder; build it first, in a minute or two, unless it is in the cache."""
    made = locate(home)
    with locked(made.with_name(made.name + ".lock"), stop):
        if made.is_dir():
            return made
        work = made.with_name(f"building-{made.name}")
        remove_tree(work)
        work.parent.mkdir(parents=True, exist_ok=True)
        log = made.with_name(made.name + ".log")
        note(f"building {made.name}: Vagrant, libvirt and QEMU; log: {log}")
        argv = in_private_namespaces(_mmdebstrap(work))
        run_logged(argv, log, BUILD_LIMIT_S, stop, environment(os.environ))
        with (work / "etc/libvirt/qemu.conf").open("a") as file:
            file.write(QEMU_CONF)
        work.rename(made)
    return made


def public_key(root: Path) -> str:
    """The key that every Vagrant knows, and replaces at the first ``up``."""
    (path,) = root.glob("usr/share/rubygems-integration/all/gems/vagrant-*/keys/vagrant.pub")
    return path.read_text()
