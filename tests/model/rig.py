"""The real thing: gateways, launches and clients, each call of which is one step of the driver."""

import json
import os
import shlex
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.birth import bear
from tests.machine import MOUNT, PROGRAM, cgroup_of, environment_of, eventually, is_alive
from tests.proof.canaries import Canaries
from tests.proof.world import SERVER, Ran, World, ready
from tests.systemd.installed import UNIT
from tests.systemd.manager import main_pid, systemctl, systemd_run_argv

from .shadow import RULES, Gateway, Member

# What is written into its pipe is executed: by a child, so that a service is the owner.
_SERVICE = """\
exec 3<> "$1"
while read -r line <&3; do (eval "exec $line") 3<&- & done
"""


class Rig(World):
    """One example's world; ``close`` leaves nothing of it."""

    def __init__(self, folder: Path, session: str, canaries: Canaries) -> None:
        super().__init__(folder, session)
        self.canaries = canaries
        self.patience = 30.0
        (self.rules / "config.toml").write_text(RULES)
        self.script = folder / "service"
        self.script.write_text(_SERVICE)
        self.log = folder / "launches"
        self.log.touch()
        self.pipes: dict[str, tuple[int, int]] = {}
        """Our ends of the pipes of servers, by their tags."""
        self.placed: dict[str, dict[str, Any]] = {}
        """What ``place`` has said of each place, by tags."""
        self.down = folder / "down"
        self.down.touch()
        self.keeper(start=False)
        self.has_keeper = False
        self.yard = self._yard()

    def _yard(self) -> str:
        """Start a stranger in a scope of its own, and return its cgroup: helpers leave to it."""
        unit = "proof-yard.scope"
        self.units.adopt(unit)
        argv = systemd_run_argv("--scope", "--collect", f"--unit={unit}", "sleep", "infinity")
        pid = self._start(argv, self.environment).pid
        return eventually(lambda: unit in cgroup_of(pid) and cgroup_of(pid))

    # gateways

    def bare(self, gateway: Gateway) -> None:
        gateway.pid = self.owner()

    def service(self, gateway: Gateway) -> None:
        """Start a service that executes what is written into its pipe."""
        pipe = self.folder / f"{gateway.unit}.pipe"
        if not pipe.exists():
            os.mkfifo(pipe)
            self.units.adopt(gateway.unit)
        passed = [
            f"--setenv={name}={value}"
            for name, value in self.environment.items()
            if name == "PATH" or name.startswith("SCOPEKEEPER_")
        ]
        command = ("/bin/sh", str(self.script), str(pipe))
        ran = self.call(
            systemd_run_argv("--collect", f"--unit={gateway.unit}", *passed, "--", *command)
        )
        assert ran.status == 0, ran.text
        gateway.pid = eventually(lambda: main_pid(gateway.unit))

    def end_gateway(self, gateway: Gateway, how: str) -> None:
        """Kill a gateway; a service may be stopped, too."""
        if not gateway.unit:
            self.end_owner(gateway.pid)
            return
        words = ("stop",) if how == "stop" else ("kill", "--signal=SIGKILL", "--kill-whom=main")
        done = systemctl(*words, gateway.unit)
        assert done.returncode == 0, done.stderr
        eventually(lambda: main_pid(gateway.unit) == 0)

    # launches

    def about(self, member: Member, **more: str) -> dict[str, str]:
        """Return what a member's environment has beside the usual."""
        return {
            "PROOF_READY": str(self.folder / f"ready.{member.tag}"),
            "PROOF_MEMBER": member.tag,
            "PROOF_TRIAL": str(self.folder),
            **({"PROOF_HELPER": "1"} if member.helps else {}),
            **more,
        }

    def words(self, member: Member, verb: Sequence[str], *options: str) -> list[str]:
        """Return the command line of a launch."""
        named = ("-s", member.session, "-l", member.lane, "-n", member.name)
        owner = () if member.owner.unit else ("--owner", str(member.owner.pid))
        if verb[0] == "run":
            options += ("--kind", member.kind, "--lifetime", member.lifetime)
        return [PROGRAM, *verb, *named, *owner, *options, "--", *SERVER]

    def launch(self, member: Member, argv: Sequence[str], *, replaces: bool = False,
               **more: str) -> None:  # fmt: skip
        """Start a member from its gateway, and wait until it runs."""
        about = self.about(member, **more)
        if member.owner.unit:
            line = shlex.join(["env", *(f"{key}={value}" for key, value in about.items()), *argv])
            pipe = os.open(self.folder / f"{member.owner.unit}.pipe", os.O_WRONLY)
            os.write(pipe, f"{line} < /dev/null > /dev/null 2>> {self.log}\n".encode())
            os.close(pipe)
        else:
            with self.log.open("ab") as log:
                self._start(argv, self.environment | about, stdout=subprocess.DEVNULL, stderr=log)
        self.began(member)

    def connect(self, member: Member, argv: Sequence[str], environment: dict[str, str]) -> None:
        """Start a server as a client does, with pipes whose other ends we hold."""
        ours, theirs = [0, 0], [0, 0]
        theirs[0], ours[0] = os.pipe()
        ours[1], theirs[1] = os.pipe()
        about = self.environment | self.about(member) | environment
        with self.log.open("ab") as log:
            self._start(argv, about, stdin=theirs[0], stdout=theirs[1], stderr=log)
        for each in theirs:
            os.close(each)
        self.pipes[member.tag] = ours[0], ours[1]
        self.began(member)

    def hang_up(self, member: Member) -> None:
        for each in self.pipes.pop(member.tag, ()):
            os.close(each)

    def wrapped(self, member: Member) -> tuple[list[str], dict[str, str]]:
        """Return what a client runs whose configuration was wrapped, and that of its server."""
        file = self.folder / f"config.{member.tag}.json"
        server = {"command": SERVER[0], "args": list(SERVER[1:])}
        before = json.dumps({"mcpServers": {member.name: server}})
        file.write_text(before)
        for command in ("wrap", "unwrap", "wrap"):
            ran = self.call([PROGRAM, command, str(file)])
            assert ran.status == 0, ran.text
            assert (file.read_text() == before) == (command == "unwrap"), file.read_text()
        found = json.loads(file.read_text())["mcpServers"][member.name]
        return [found["command"], *found["args"]], {
            **found.get("env", {}),
            "SCOPEKEEPER_SESSION": member.session,
            "SCOPEKEEPER_LANE": member.lane,
            "SCOPEKEEPER_OWNER": str(member.owner.pid),
        }

    def place(self, member: Member, within: str) -> None:
        """Make a place for a member."""
        words = self.words(member, ("place",), "--within", within, "--json")
        ran = self.call(words[: words.index("--")])
        assert ran.status == 0, ran.text
        made = json.loads(ran.text)
        member.leaf, member.unit = (
            made["leaf"],
            os.path.basename(os.path.dirname(made["directory"])),
        )
        self.placed[member.tag] = made

    def bear(self, member: Member) -> None:
        """Start the child in its place."""
        made = self.placed[member.tag]
        pid, born_in = bear(
            made["directory"], SERVER, self.environment | self.about(member) | made["environment"]
        )
        threading.Thread(target=os.waitpid, args=(pid, 0), daemon=True).start()
        assert born_in == made["directory"], born_in
        self.began(member)

    def began(self, member: Member) -> None:
        """Wait until a command runs, and note where."""
        try:
            found = eventually(lambda: ready(self.folder / f"ready.{member.tag}"), self.patience)
        except AssertionError:
            words = "".join(self.log.read_text().splitlines(keepends=True)[-5:])
            raise AssertionError(f"lost: {member.tag} does not begin: {words}") from None
        member.command, member.helper = int(found["pid"]), int(found.get("helper", 0))
        scope, _, member.leaf = found["cgroup"].rpartition("/")
        member.unit = os.path.basename(scope)

    def scratch_of(self, member: Member) -> Path:
        return Path(environment_of(member.command)["TMPDIR"])

    # what is done

    def ask(self, *words: str, answers: tuple[int, ...] = (0,)) -> Ran:
        """Run a command of the program; any other answer is a difference."""
        ran = self.call([PROGRAM, *words])
        if ran.status not in answers:
            raise AssertionError(f"status: {shlex.join(words)} answered {ran.status}: {ran.text}")
        return ran

    def signal(self, pid: int, number: int, *, ends: bool) -> None:
        os.kill(pid, number)
        if ends:
            eventually(lambda: not is_alive(pid))

    def move(self, pid: int, cgroup: str) -> None:
        Path(f"{MOUNT}{cgroup}/cgroup.procs").write_text(str(pid))

    def keeper_is(self, how: str) -> None:
        """Start, stop, restart or kill the keeper's service."""
        before = main_pid(UNIT)
        if how == "stop":
            self.down.touch()
        else:
            self.down.unlink(missing_ok=True)
        words = ("kill", "--signal=SIGKILL", "--kill-whom=main") if how == "kill" else (how,)
        done = systemctl(*words, UNIT)
        assert done.returncode == 0, done.stderr
        if how == "kill":
            eventually(lambda: main_pid(UNIT) not in (0, before))
            eventually(lambda: systemctl("is-active", UNIT).stdout == "active\n")

    def close(self) -> None:
        for tag in list(self.pipes):
            for each in self.pipes.pop(tag):
                os.close(each)
        super().close()
