"""Has Ansible of Debian's archive, unpacked and cached.

    python -m tests.ansible.packages

It lies below the lab's folder, in ``ansible/``. Exit status: 0 it is there, 3 the archive cannot be
reached.
"""

import hashlib
import json
import shutil
import sys
import threading
from pathlib import Path

from tests.e2e.packages import complete, is_complete
from tests.lab.host import LabError, Note, home, locked
from tests.prometheus.packages import SUITE, unpack

PACKAGES = ("ansible-core", "openssh-server", "python3-apt", "systemd-container")
"""python3-apt is what Ansible needs on a host to install packages; the last has systemd-nspawn."""


def have(note: Note) -> Path:
    """Have it, and return the folder; UnreachableError, LabError."""
    root = home().root / "ansible"
    with locked(root.with_name("ansible.lock"), threading.Event()):
        root.mkdir(parents=True, exist_ok=True)
        stamp = hashlib.sha256(json.dumps([SUITE, PACKAGES]).encode()).hexdigest()
        proof = root / "unpacked/usr/bin/ansible-playbook"
        if not is_complete(root, stamp, proof):
            note(f"unpacking {', '.join(PACKAGES)} of Debian's {SUITE} into {root}")
            into, log = root / "unpacked", root / "log.txt"
            shutil.rmtree(into, ignore_errors=True)
            log.unlink(missing_ok=True)
            unpack(PACKAGES, into, log)
            complete(root, stamp, proof)
    return root / "unpacked"


def main() -> int:
    """Have it, and print where."""
    try:
        print(have(print))
    except LabError as error:
        print(f"ansible: {error}", file=sys.stderr)
        return error.status
    return 0


if __name__ == "__main__":
    sys.exit(main())
