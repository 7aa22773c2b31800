"""Innocent processes beside everything: no signal may ever reach them.

Each has the command, the environment and the name of a member, but not our marker. They are where
something might look for members: in the slice of the scopes and beside it, in a cgroup named like
a member's, in a session of their own, in a service, in the user's tmux.
"""

import os
import select
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.machine import directory_of, eventually, state_of, text_of
from tests.systemd.manager import Units, systemctl, systemd_run_argv

from .world import SERVER, ready

TMUX = "proof-canaries"


@dataclass(frozen=True)
class Canary:
    """One of them, held by its pidfd."""

    name: str
    pid: int
    pidfd: int
    signals: Path

    def complaint(self) -> str:
        """Return what was done to it, '' if nothing was."""
        if select.select([self.pidfd], [], [], 0)[0]:
            return f"innocent: {self.name} (pid {self.pid}) is dead"
        if got := text_of(self.signals).split():
            names = ", ".join(signal.Signals(int(number)).name for number in got)
            return f"innocent: {self.name} (pid {self.pid}) got {names}"
        if (state := state_of(self.pid)) in ("T", "t"):
            return f"innocent: {self.name} (pid {self.pid}) is stopped ({state})"
        return ""


class Canaries:
    """All of them; ``close`` ends them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.units = Units()
        self.children: list[subprocess.Popen[bytes]] = []
        self.all = [
            self._child("child"),
            self._child("setsid", start_new_session=True),
            self._child("reparented", before=("setsid", "--fork")),
            self._unit("sibling-slice", "--scope", "--slice=proof.slice"),
            self._unit("our-slice", "--scope", "--slice=scopekeeper.slice"),
            self._unit("service"),
            self._leaf("named-like-a-member"),
        ]
        if shutil.which("tmux"):
            self.all.append(self._in_tmux("tmux"))

    def complaints(self) -> list[str]:
        """Return what was done to any of them."""
        return [words for each in self.all if (words := each.complaint())]

    def _environment(self, name: str) -> dict[str, str]:
        return {
            **os.environ,
            "PROOF_READY": str(self.folder / name),
            "PROOF_SIGNALS": str(self.folder / f"{name}.signals"),
            "PROOF_MEMBER": "server",
        }

    def _found(self, name: str) -> Canary:
        pid = int(eventually(lambda: ready(self.folder / name))["pid"])
        return Canary(name, pid, os.pidfd_open(pid), self.folder / f"{name}.signals")

    def _child(self, name: str, before: tuple[str, ...] = (), **how: object) -> Canary:
        self.children.append(
            subprocess.Popen(
                [*before, *SERVER],
                env=self._environment(name),
                stdin=subprocess.DEVNULL,
                **how,  # type: ignore[call-overload]
            )
        )
        return self._found(name)

    def _unit(self, name: str, *options: str, command: tuple[str, ...] = SERVER) -> Canary:
        is_scope = "--scope" in options
        unit = f"proof-{name}.{'scope' if is_scope else 'service'}"
        self.units.adopt(unit)
        environment = self._environment(name)
        passed = [f"--setenv={key}" for key in environment if key.startswith("PROOF_")]
        argv = systemd_run_argv(f"--unit={unit}", *options, *passed, "--", *command)
        self.children.append(subprocess.Popen(argv, env=environment, stdin=subprocess.DEVNULL))
        return self._found(name)

    def _leaf(self, name: str) -> Canary:
        """Move one into a cgroup of its own, named like a member's, in a scope that is not ours."""
        canary = self._unit(name, "--scope", "--property=Delegate=yes", "--slice=proof.slice")
        leaf = f"{directory_of(canary.pid)}/m-server.0123abcd"
        os.mkdir(leaf)
        Path(leaf, "cgroup.procs").write_text(str(canary.pid))
        return canary

    def _in_tmux(self, name: str) -> Canary:
        argv = ["tmux", "-L", TMUX, "-f", "/dev/null", "new-session", "-d", "--", *SERVER]
        subprocess.run(argv, env=self._environment(name), check=True)
        return self._found(name)

    def close(self) -> None:
        """End them; only now they may be signalled."""
        for each in self.all:
            signal.pidfd_send_signal(each.pidfd, signal.SIGKILL)
            os.close(each.pidfd)
        for child in self.children:
            child.wait()
        if shutil.which("tmux"):
            subprocess.run(["tmux", "-L", TMUX, "kill-server"], capture_output=True)
        self.units.close()
        systemctl("stop", "proof.slice")
