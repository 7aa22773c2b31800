"""A second machine beside this one: the same system again, booted by systemd-nspawn.

Its disk is this machine's, below a file system in memory: what is done there is gone with it.
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.machine import eventually, text_of

UNIT = "second-machine.service"
_NEAR, _ADDRESS = "10.214.1.1", "10.214.1.2"


class SecondMachine:
    """A booted machine that this one reaches at an address.

    programs is where systemd-nspawn is unpacked, shared a folder that both machines have.
    """

    address = _ADDRESS

    def __init__(self, programs: Path, shared: Path) -> None:
        self._root = shared / "root"
        self._root.mkdir()
        _call("mount", "--bind", "/", str(self._root))
        nspawn = [
            str(programs / "usr/bin/systemd-nspawn"), "--quiet", "--boot", "--volatile=overlay",
            f"--directory={self._root}", "--machine=second", "--hostname=second",
            "--register=no", "--keep-unit", "--settings=no", "--network-veth",
            "--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=read-only",
            f"--bind={shared}", f"--bind-ro={programs}", "systemd.mask=console-getty.service",
        ]  # fmt: skip
        _call(
            "systemd-run", "--quiet", "--collect", f"--unit={UNIT}", "-p", "Delegate=yes",
            "-p", "KillMode=mixed",
            "-E", f"LD_LIBRARY_PATH={programs}/usr/lib/x86_64-linux-gnu/systemd",
            "-E", "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1", "-E", "SYSTEMD_NSPAWN_LOCK=0", *nspawn,
        )  # fmt: skip
        self._init = eventually(_init_of_the_unit)
        eventually(self._is_up, seconds=120)
        _call("ip", "address", "add", f"{_NEAR}/24", "dev", "ve-second")
        _call("ip", "link", "set", "ve-second", "up")
        self.run("ip", "address", "add", f"{_ADDRESS}/24", "dev", "host0")
        self.run("ip", "link", "set", "host0", "up")

    def start(self, words: Sequence[str]) -> None:
        """Start a service of its own there."""
        self.run("systemd-run", "--quiet", "--", *words)

    def run(self, *words: str) -> str:
        """Run a command there, and return its output."""
        return _call(*self._inside(), *words)

    def close(self) -> None:
        """Power it off."""
        _call("systemctl", "stop", UNIT)
        _call("umount", str(self._root))

    def _inside(self) -> list[str]:
        return ["nsenter", f"--target={self._init}", "--all", "--"]

    def _is_up(self) -> bool:
        words = [*self._inside(), "systemctl", "is-system-running"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        return done.stdout.strip() in ("running", "degraded")


def _init_of_the_unit() -> int:
    """Return the pid of the machine's first process; 0 if it is not there yet."""
    nspawn = _call("systemctl", "show", "--value", "--property=MainPID", UNIT).strip()
    children = text_of(f"/proc/{nspawn}/task/{nspawn}/children").split()
    inits = [each for each in children if text_of(f"/proc/{each}/comm") == "systemd\n"]
    return int(inits[0]) if inits else 0


def _call(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout
