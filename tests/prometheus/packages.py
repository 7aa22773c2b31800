"""Has Prometheus, promtool and node_exporter of Debian's archive, cached: ``bin/`` of a folder.

    python -m tests.prometheus.packages

They lie below the lab's folder, in ``prometheus/``, and come from the archive of the lab's trixie,
whose signatures apt checks. Exit status: 0 all is there, 3 the archive cannot be reached.
"""

import hashlib
import json
import re
import shutil
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.packages import UnreachableError, complete, is_complete
from tests.lab.host import LabError, Note, home, in_private_namespaces, locked, run_logged

SUITE = "trixie"
PACKAGES = ("prometheus", "prometheus-node-exporter")
PROGRAMS = ("prometheus", "promtool", "prometheus-node-exporter")
LIMIT_S = 900.0
# apt's own words for an archive that does not answer
UNREACHABLE = re.compile(r"Could not (resolve|connect)|Failed to fetch|Temporary failure")


def have(note: Note) -> Path:
    """Have the programs; return the folder with ``bin/``. UnreachableError, LabError."""
    root = home().root / "prometheus"
    with locked(root.with_name("prometheus.lock"), threading.Event()):
        install(root, note)
    return root


def install(root: Path, note: Note) -> None:
    """Have a folder complete; does nothing where its stamp says that it is."""
    root.mkdir(parents=True, exist_ok=True)
    stamp = hashlib.sha256(json.dumps([SUITE, PACKAGES, PROGRAMS]).encode()).hexdigest()
    proof = root / "bin" / PROGRAMS[-1]
    if is_complete(root, stamp, proof):
        return
    note(f"unpacking {', '.join(PACKAGES)} of Debian's {SUITE} into {root}")
    unpacked, log = root / "unpacked", root / "log.txt"
    shutil.rmtree(unpacked, ignore_errors=True)
    log.unlink(missing_ok=True)
    unpack(PACKAGES, unpacked, log)
    (root / "bin").mkdir(exist_ok=True)
    for name in PROGRAMS:
        (unpacked / "usr/bin" / name).replace(root / "bin" / name)
    shutil.rmtree(unpacked)
    complete(root, stamp, proof)


def unpack(packages: Sequence[str], into: Path, log: Path) -> None:
    """Unpack packages, with what they depend on, and install nothing."""
    argv = [
        *("mmdebstrap", "--mode=root", "--variant=extract", "--format=directory"),
        f"--include={','.join(packages)}",
        *('--aptopt=APT::Install-Recommends "false"', '--aptopt=Acquire::Languages "none"'),
        *(SUITE, str(into)),
    ]
    try:
        run_logged(in_private_namespaces(argv), log, LIMIT_S)
    except LabError as error:
        if log.exists() and UNREACHABLE.search(log.read_text(errors="replace")):
            raise UnreachableError(f"Debian's archive cannot be reached: {log}") from None
        raise LabError(f"{error}", 1) from None


def main() -> int:
    """Have them, and print where."""
    try:
        print(have(print))
    except LabError as error:
        print(f"prometheus: {error}", file=sys.stderr)
        return error.status
    return 0


if __name__ == "__main__":
    sys.exit(main())
