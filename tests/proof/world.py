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


@dataclass(frozen=True)
class Strike:
    """What befalls a command: the words in front of it, or the moment at which it is killed."""

    argv: tuple[str, ...] = ()
    after: float | None = None
    at_execve: bool = False
    """Whether it may also end what the command becomes, as that begins."""

    @property
    def hits(self) -> bool:
        return bool(self.argv) or self.after is not None


NONE = Strike()


@dataclass
class Running:
    """A command that has been started."""

    argv: tuple[str, ...]
    process: subprocess.Popen[bytes]
    output: Path
    until: Member | None

    def end(self) -> Ran:
        """Wait for its end, or until the member has begun that it becomes."""
        status: int | None = None
        try:
            if (member := self.until) is None:
                status = self.process.wait(LIMIT)
            else:
                eventually(lambda: self.process.poll() is not None or member.began, LIMIT, 0.005)
                status = self.process.poll() or 0
        except (subprocess.TimeoutExpired, AssertionError):
            self.process.kill()
        return Ran(self.argv, status, text_of(self.output))


class World:
    """What one trial starts; ``close`` leaves nothing of it."""

    def __init__(self, folder: Path, session: str) -> None:
        self.folder, self.session, self.other = folder, session, f"{session}:other"
        self.state, self.rules, self.room = folder / "state", folder / "rules", folder / "room"
        for each in (folder, self.rules, self.room, folder / "outside"):
            each.mkdir()
        (folder / "outside" / "kept").touch()
        self.members: dict[str, Member] = {}
        self.owners: list[subprocess.Popen[bytes]] = []
        self.ran: list[Ran] = []
        self.started = 0
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
        reasons: tuple[str, ...] = (), verb: Sequence[str] = ("run",), session: str = "",
    ) -> list[str]:  # fmt: skip
        """Register a member and return the command line that launches it."""
        path = self.tree(name) if own else None
        member = Member(name, self.folder / f"ready.{name}", may, path, reasons)
        self.members[name] = member
        words = [PROGRAM, *verb, "-s", session or self.session, *options]
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
        reasons: tuple[str, ...] = (), session: str = "", **more: str,
    ) -> Member:  # fmt: skip
        """Start a member and wait until it runs."""
        argv = self.argv(name, owner, *options, may=may, own=own, reasons=reasons, session=session)
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

    def keeper(self, strike: Strike = NONE, *, start: bool = True) -> None:
        """Install the keeper's unit, and start it; its first process is the one to be struck."""
        script = self.folder / "keeper"
        script.write_text(_KEEPER.format(folder=self.folder, program=PROGRAM))
        script.chmod(0o755)
        if strike.argv:
            (self.folder / "armed").write_text(" ".join(strike.argv))
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
            systemctl("start", *(["--no-block"] if strike.argv else []), UNIT)

    # what is done

    def begin(
        self, argv: Sequence[str], environment: dict[str, str] | None = None,
        strike: Strike = NONE, until: Member | None = None,
    ) -> Running:  # fmt: skip
        """Start a command."""
        self.started += 1
        output = self.folder / f"output.{self.started}"
        with output.open("wb") as file:
            process = self._start(
                [*strike.argv, *argv], environment or self.environment, stdout=file, stderr=file
            )
        if strike.after is not None:
            threading.Timer(strike.after, process.kill).start()
        return Running(tuple(argv), process, output, until)

    def end(self, running: Running) -> Ran:
        """Wait for the end of a command."""
        self.ran.append(running.end())
        return self.ran[-1]

    def call(
        self, argv: Sequence[str], environment: dict[str, str] | None = None,
        strike: Strike = NONE, until: Member | None = None,
    ) -> Ran:  # fmt: skip
        """Run a command to its end, or until a member has begun that it becomes."""
        return self.end(self.begin(argv, environment, strike, until))

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
