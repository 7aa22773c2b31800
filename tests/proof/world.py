"""One trial's world: its folder, its owners and members, its keeper, and how it is left."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import folders
from tests.machine import (
    MOUNT,
    PROGRAM,
    ROOT,
    end_cgroup,
    eventually,
    is_alive,
    scope_directories,
    text_of,
)
from tests.systemd.installed import DROP_IN, FILES, UNIT
from tests.systemd.manager import Units, scope_units, systemctl

SERVER = (sys.executable, "-IS", str(Path(__file__).with_name("server.py")))
LIMIT = 90.0
"""Seconds that a command may take before it counts as hung."""
_KEEPER = """\
#!/bin/sh
if strike=$(cat {folder}/armed 2> /dev/null); then
    rm {folder}/armed
    exec $strike {program} keeper --linger infinity
fi
exec {program} keeper --linger infinity
"""


def ready(path: Path) -> dict[str, Any]:
    """Return what a server has written about itself, {} if it has not begun."""
    text = text_of(path)
    found: dict[str, Any] = json.loads(text) if text else {}
    return found


@dataclass
class Member:
    """A member, and what may become of it: ``lives``, ``ends``, or both are right."""

    name: str
    session: str
    file: Path
    may: str
    owned: Path | None = None
    reasons: tuple[str, ...] = ()
    """The reasons that its end may have; () allows each."""
    given_up: bool = False
    """Whether its launch has reported that nothing was started."""

    @property
    def about(self) -> dict[str, Any]:
        return ready(self.file)

    @property
    def pid(self) -> int:
        return int(self.about.get("pid", 0))

    @property
    def began(self) -> bool:
        return bool(self.about)

    @property
    def lives(self) -> bool:
        return self.began and is_alive(self.pid)


@dataclass(frozen=True)
class Ran:
    """A command that has ended, or hung (``status`` is None)."""

    argv: tuple[str, ...]
    status: int | None
    text: str


class World:
    """What one trial starts; ``close`` leaves nothing of it."""

    def __init__(self, folder: Path, session: str) -> None:
        self.folder, self.session = folder, session
        self.state, self.rules, self.room = folder / "state", folder / "rules", folder / "room"
        for each in (folder, self.rules, self.room, folder / "outside"):
            each.mkdir()
        (folder / "outside" / "kept").touch()
        self.members: dict[str, Member] = {}
        self.owners: list[subprocess.Popen[bytes]] = []
        self.ran: list[Ran] = []
        self.notes: list[str] = []
        self.units = Units()
        self.has_keeper = self.installs = False
        self.runs: dict[str, int] = {}
        """The runs of ``exec``, with how many lines each prints."""
        self.environment = {
            **os.environ,
            "SCOPEKEEPER_STATE": str(self.state),
            "SCOPEKEEPER_CONFIG": str(self.rules),
            "SCOPEKEEPER_SCRATCH": str(folder),
        }

    # what is there before

    def owner(self) -> int:
        """Start a process that can own members."""
        self.owners.append(self._start(["sleep", "infinity"], self.environment))
        return self.owners[-1].pid

    def end_owner(self, pid: int) -> None:
        """Kill an owner and wait until it is gone."""
        (owner,) = (each for each in self.owners if each.pid == pid)
        owner.kill()
        owner.wait()

    def argv(
        self, name: str, owner: int, *options: str, may: str, own: bool = False,
        reasons: tuple[str, ...] = (), verb: Sequence[str] = ("run",),
    ) -> list[str]:  # fmt: skip
        """Register a member and return the command line that launches it."""
        path = self.tree(name) if own else None
        member = Member(name, self.session, self.folder / f"ready.{name}", may, path, reasons)
        self.members[name] = member
        words = [PROGRAM, *verb, "-s", self.session, *options]
        if owner:
            words += ["-n", name, "--owner", str(owner)]
        if path is not None:
            words += ["--own", str(path)]
        return [*words, "--", *SERVER]

    def of(self, name: str, **more: str) -> dict[str, str]:
        """Return the environment to launch a member with."""
        about = {"PROOF_READY": str(self.members[name].file), "PROOF_MEMBER": name}
        return {**self.environment, **about, "PROOF_TRIAL": str(self.folder), **more}

    def member(
        self, name: str, owner: int, *options: str, may: str, own: bool = False,
        reasons: tuple[str, ...] = (), **more: str,
    ) -> Member:  # fmt: skip
        """Start a member and wait until it runs."""
        argv = self.argv(name, owner, *options, may=may, own=own, reasons=reasons)
        self._start(argv, self.of(name, **more))
        member = self.members[name]
        eventually(lambda: member.began)
        return member

    def tree(self, name: str) -> Path:
        """Make a folder to hand over, with a link out of it."""
        path = self.room / name
        (path / "inner" / "deep").mkdir(parents=True)
        for each in range(4):
            (path / "inner" / f"file{each}").write_text("x")
        (path / "inner" / "deep" / "file").write_text("x")
        (path / "link").symlink_to(self.folder / "outside")
        return path

    def keeper(self, strike: Sequence[str] = (), *, start: bool = True) -> None:
        """Install the keeper's unit; it is started, under strace if it is to be struck."""
        script = self.folder / "keeper"
        script.write_text(_KEEPER.format(folder=self.folder, program=PROGRAM))
        script.chmod(0o755)
        if strike:
            (self.folder / "armed").write_text(" ".join(strike))
        left_out = ("SystemCall", "Restrict", "MemoryDeny", "ExecStart", "WatchdogSec")
        lines = (FILES / UNIT).read_text().replace("RestartSec=1\n", "RestartSec=50ms\n")
        text = "".join(
            line for line in lines.splitlines(keepends=True) if not line.startswith(left_out)
        )
        passed = "".join(
            f"Environment={name}={value}\n"
            for name, value in self.environment.items()
            if name == "PATH" or name.startswith("SCOPEKEEPER_")
        )
        if ROOT:
            self.units.write(DROP_IN, (FILES / "system" / DROP_IN).read_text())
        unit = text.replace("Restart=on-failure", "Restart=always")
        # each new scope starts it, unless it is to stay down
        down = f"StartLimitIntervalSec=0\nConditionPathExists=!{self.folder}/down\n"
        unit = unit.replace("[Service]\n", f"{down}[Service]\n")
        self.units.write(UNIT, f"{unit}\n[Service]\nExecStart={script}\n{passed}")
        self.has_keeper = True
        if start:
            systemctl("start", *(["--no-block"] if strike else []), UNIT)

    # what is done

    def call(
        self, argv: Sequence[str], environment: dict[str, str] | None = None,
        strike: Sequence[str] = (), until: Member | None = None, kill_after: float | None = None,
    ) -> Ran:  # fmt: skip
        """Run a command to its end, or until a member has begun that it becomes."""
        number = len(self.ran)
        output = self.folder / f"output.{number}"
        with output.open("wb") as file:
            process = self._start(
                [*strike, *argv], environment or self.environment, stdout=file, stderr=file
            )
        status: int | None = None
        try:
            if kill_after is not None:
                threading.Timer(kill_after, process.kill).start()
            if until is None:
                status = process.wait(LIMIT)
            else:
                eventually(lambda: process.poll() is not None or until.began, LIMIT, 0.005)
                status = process.poll() or 0
        except (subprocess.TimeoutExpired, AssertionError):
            process.kill()
        ran = Ran(tuple(argv), status, text_of(output))
        self.ran.append(ran)
        return ran

    def _start(
        self, argv: Sequence[str], environment: dict[str, str], **how: object
    ) -> subprocess.Popen[bytes]:
        process: subprocess.Popen[bytes] = subprocess.Popen(  # type: ignore[call-overload]
            argv, env=environment, **({"stdin": subprocess.DEVNULL} | how)
        )
        threading.Thread(target=process.wait, daemon=True).start()  # no zombie in any cgroup
        return process

    # how it is left

    def close(self) -> None:
        """End everything and remove it."""
        self.units.close()
        for directory in scope_directories():
            end_cgroup(directory)
        for owner in self.owners:
            owner.kill()
            owner.wait()
        if left := [unit for unit, state in scope_units().items() if state != "inactive"]:
            systemctl("stop", "--", *left)
            systemctl("reset-failed", "--", *left)
        for directory in scope_directories(MOUNT):
            eventually(lambda directory=directory: folders.remove(directory))
        shutil.rmtree(self.folder, ignore_errors=True)
