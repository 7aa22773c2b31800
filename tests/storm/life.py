"""One session's life in the storm: a gateway starts members, and they end; each is watched."""

import json
import os
import random
import re
import select
import shutil
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.machine import PROGRAM, cgroup_of, eventually, text_of

GATEWAY = (sys.executable, "-IS", str(Path(__file__).with_name("gateway.py")))
SECONDS = 60.0
"""How long a start may take, and an end that the keeper brings about."""
_SERVES = 'echo $$ >"$1"; exec cat'
_WAITS = 'echo $$ >"$1"; echo building; exec sleep infinity'
KINDS = ("mcp", "own", "scratch", "exec", "pty", "wrapped", "short", "short run")
_QUICK = ("short", "short run")
_OUTLIVES = ("exec", "pty")
ENDS = ("gateway killed", "gateway killed", "stop", "gateway ended")


@dataclass
class Member:
    """One that was started; ``ready`` is the file that its command writes its pid to."""

    kind: str
    ready: Path
    argv: list[str]
    stdin: str
    owned: Path | None = None
    pidfd: int = -1
    pid: int = 0

    @property
    def has_ended(self) -> bool:
        return bool(select.select([self.pidfd], [], [], 0)[0])


@dataclass
class Found:
    """What came out of lives."""

    wrong: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)


class Life:
    """The life number N of a seed: all of it follows from both."""

    def __init__(self, folder: Path, seed: int, number: int, environment: dict[str, str]) -> None:
        self.chance = random.Random(f"{seed}/{number}")
        self.session = f"storm:{seed}:{number}"
        self.folder = folder / f"life.{number}"
        self.environment = environment | {"SCOPEKEEPER_SESSION": self.session}
        self.found = Found()
        self.members: list[Member] = []
        self.gateway: subprocess.Popen[bytes] | None = None

    def live(self) -> Found:
        """Live it, and return what was wrong."""
        self.folder.mkdir()
        kinds = self.chance.choices(KINDS, (6, 2, 2, 3, 1, 2, 3, 1), k=self.chance.randint(1, 5))
        end = self.chance.choice(ENDS)
        try:
            for kind in kinds:
                self.members.append(self._member(kind))
            self._begin()
            select.select([], [], [], self.chance.uniform(0, 0.3))
            self._end(end)
            self._look_at_history()
            self.found.done.update(f"member: {kind}" for kind in kinds)
            self.found.done[f"end: {end}"] += 1
        except (AssertionError, OSError, ValueError, subprocess.SubprocessError) as failed:
            self._wrong("other", f"{type(failed).__name__}: {str(failed)[:300]}")
        finally:
            self._close()
        return self.found

    def _wrong(self, kind: str, words: str) -> None:
        self.found.wrong.append(f"{kind}: {self.session}: {words}")

    def _member(self, kind: str) -> Member:
        number = len(self.members)
        name, ready = f"{kind.replace(' ', '-')}{number}", self.folder / f"ready.{number}"
        serves = ["sh", "-c", _SERVES, "sh", str(ready)]
        waits = ["sh", "-c", _WAITS, "sh", str(ready)]
        own = ["-s", self.session, "-n", name]
        if kind in ("mcp", "own", "scratch"):
            path = self.folder / f"owned.{number}" if kind == "own" else None
            if path is not None:
                (path / "inner").mkdir(parents=True)
                (path / "inner" / "file").write_text("x")
            options = {"own": ["--own", str(path)], "scratch": ["--scratch"]}.get(kind, [])
            return Member(
                kind, ready, [PROGRAM, "run", *own, *options, "--", *serves], "pipe", path
            )
        if kind == "exec":
            return Member(kind, ready, [PROGRAM, "exec", "-d", *own, "--", *waits], "null")
        if kind == "pty":
            return Member(kind, ready, [PROGRAM, "exec", *own, "--", *waits], "pty")
        if kind == "wrapped":
            return Member(kind, ready, self._wrapped(name, serves), "pipe")
        verb = ["run"] if kind == "short" else ["exec", "-d"]
        return Member(kind, ready, [PROGRAM, *verb, *own, "--", "true"], "null")

    def _wrapped(self, name: str, serves: list[str]) -> list[str]:
        """Wrap a configuration, and return the command line that a client reads from it."""
        file = self.folder / f"{name}.json"
        server = {"command": serves[0], "args": serves[1:]}
        text = json.dumps({"mcpServers": {name: server}}, indent=2) + "\n"
        file.write_text(text)
        self._call("wrap", str(file))
        found = json.loads(file.read_text())["mcpServers"][name]
        self._call("unwrap", str(file))
        if file.read_text() != text:
            self._wrong("lost", f"unwrap gave {file.read_text()!r}")
        return [found["command"], *found["args"]]

    def _call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [PROGRAM, *arguments], env=self.environment, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=SECONDS,
        )  # fmt: skip
        if done.returncode != 0 or "Traceback" in done.stderr:
            self._wrong("other", f"{' '.join(arguments)} answered {done.returncode}: "
                                 f"{done.stderr.strip()[-300:]}")  # fmt: skip
        return done

    def _begin(self) -> None:
        """Start the gateway, and find what it has started."""
        plan, up = self.folder / "plan", self.folder / "up"
        starts = [
            {"argv": each.argv, "stdin": each.stdin, "output": f"{each.ready}.output",
             "waits": each.stdin == "null"}
            for each in self.members
        ]  # fmt: skip
        plan.write_text(json.dumps({"up": str(up), "starts": starts}))
        self.gateway = subprocess.Popen(
            [*GATEWAY, str(plan)], env=self.environment, stdin=subprocess.DEVNULL
        )
        for each, status in zip(self.members, json.loads(self._until_up(up)), strict=True):
            if status not in (None, 0):
                words = text_of(f"{each.ready}.output").strip()[-300:]
                self._wrong("other", f"a start by {each.kind} answered {status}: {words}")
            elif each.kind not in _QUICK:
                self._find(each)
        self.members = [each for each in self.members if each.pidfd >= 0 or each.owned]

    def _until_up(self, up: Path) -> str:
        return eventually(lambda: text_of(up), SECONDS)

    def _find(self, member: Member) -> None:
        try:
            pid = eventually(lambda: re.fullmatch(r"\d+\n", text_of(member.ready)), SECONDS)
            member.pid = int(pid[0])
            member.pidfd = os.pidfd_open(member.pid)
        except (AssertionError, ProcessLookupError):
            self._wrong("lost", f"{member.kind} was started, and does not run")
            return
        cgroup = cgroup_of(member.pid)
        if not re.search(rf"/scopekeeper-{re.escape(self.session)}-[^/]*\.scope/m-", cgroup):
            self._wrong("lost", f"{member.kind} (pid {member.pid}) is in {cgroup}")

    def _end(self, how: str) -> None:
        """End the session; whatever lived until now must have, and must end."""
        assert self.gateway is not None
        running = [each for each in self.members if each.pidfd >= 0]
        for each in running:
            if each.has_ended:
                self._wrong("innocent", f"{each.kind} (pid {each.pid}) was ended with its gateway")
        if how == "stop":
            if running:
                self._call("stop", "-s", self.session)
        else:
            number = signal.SIGKILL if how == "gateway killed" else signal.SIGTERM
            self.gateway.send_signal(number)
            self._expect_ends([each for each in running if each.kind not in _OUTLIVES])
            later = [each for each in running if each.kind in _OUTLIVES]
            for each in later:
                if each.kind == "exec" and each.has_ended:
                    self._wrong("innocent", f"a run (pid {each.pid}) ended with its gateway")
            if any(not each.has_ended for each in later):
                self._call("stop", "-s", self.session)
        self._expect_ends(running)

    def _expect_ends(self, members: list[Member]) -> None:
        try:
            eventually(lambda: all(each.has_ended for each in members), SECONDS, 0.02)
            eventually(lambda: not any(self._owned(each) for each in members), SECONDS, 0.02)
        except AssertionError:
            for each in members:
                if not each.has_ended or self._owned(each):
                    self._wrong("left", f"{each.kind} (pid {each.pid}) or its path is left")

    def _owned(self, member: Member) -> bool:
        return member.owned is not None and member.owned.exists()

    def _look_at_history(self) -> None:
        """Some of the lives wait until the history has one reason for each member."""
        if self.chance.random() > 0.05:
            return
        wanted = len(json.loads(text_of(self.folder / "plan"))["starts"])

        def ends() -> list[dict[str, object]]:
            done = self._call("history", "-s", self.session, "--json")
            found: list[dict[str, object]] = json.loads(done.stdout)["ends"]
            return found

        try:
            eventually(lambda: len(ends()) >= wanted, SECONDS, 0.5)
        except AssertionError:
            self._wrong("other", f"the history has {len(ends())} ends of {wanted}")
        if len(found := ends()) > wanted:
            names = ("member_id", "name", "run", "started", "reason", "evidence", "pid", "seen")
            rows = [[each.get(name) for name in names] for each in found]
            self._wrong("other", f"the history has {len(found)} ends of {wanted}: {rows}")

    def _close(self) -> None:
        if self.gateway is not None:
            self.gateway.kill()
            self.gateway.wait()
        for each in self.members:
            if each.pidfd >= 0:
                os.close(each.pidfd)
        shutil.rmtree(self.folder, ignore_errors=True)
