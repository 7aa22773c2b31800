"""``make demo``: kills a gateway with nine real MCP servers, without and with scopekeeper.

Every process started here has a folder of this run in its PATH, is held by a pidfd, and is ended at
the end, however the demo ends.
"""

import contextlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from scopekeeper.errors import ScopekeeperError
from scopekeeper.scope.choose_placement import find
from scopekeeper.scope.placement import Caller, Place
from tests.gateway import drive
from tests.gateway.witness import Process, Witness, carriers, inhabitants, wait_for_end

LANE = "main"
READY_S = 120.0
EXIT_S = 10.0
QUIET_S = 2.0
SETTLE_S = 0.5


class Screen:
    """Prints to a terminal or a file; in colours only on a terminal."""

    def __init__(self) -> None:
        self.colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self.width = shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() else 100
        sys.stdout.reconfigure(line_buffering=True, errors="replace")

    def _paint(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self.colours else text

    def title(self, text: str) -> None:
        print("\n" + self._paint("1", text))

    def say(self, text: str) -> None:
        print(text)

    def detail(self, text: str) -> None:
        cut = text if len(text) + 4 <= self.width else text[: self.width - 5] + "…"
        print("    " + self._paint("2", cut))

    def command(self, *words: str) -> None:
        print(self._paint("36", "$ " + " ".join(words)))

    def output(self, text: str) -> None:
        sys.stdout.write(text)

    def good(self, text: str) -> None:
        print(self._paint("32", text))

    def bad(self, text: str) -> None:
        print(self._paint("31", text))


class Demo:
    """One demonstration: its session, its folder, and what it shows."""

    def __init__(self, screen: Screen, folder: Path, errors: Path) -> None:
        self.screen = screen
        self.folder = folder
        self.session = f"agent:demo:{os.getpid()}"
        self.repository = drive.repository(folder / "repository")
        self.errors = errors

    @contextlib.contextmanager
    def gateway(self, name: str, *options: str) -> Iterator[tuple[drive.Gateway, Witness]]:
        """Start a gateway and its witness; afterwards end everything of both."""
        mark = self.folder / name
        arguments = ["-s", self.session, "-l", LANE, "--repository", str(self.repository)]
        with Witness(str(mark)) as witness, self.errors.open("w") as errors:
            began = time.monotonic()
            self.screen.say("starting nine MCP servers (3 time, 3 fetch, 3 git) …")
            with drive.gateway(
                [*arguments, *options], drive.environment(mark), seconds=READY_S, errors=errors
            ) as gateway:
                tools = sum(len(server["tools"]) for server in gateway.servers)
                self.screen.say(
                    f"gateway: pid {gateway.pid}; {len(gateway.servers)} servers answered after "
                    f"{time.monotonic() - began:.1f} s and have {tools} tools"
                )
                time.sleep(SETTLE_S)  # git ends its short helpers
                witness.look()
                yield gateway, witness

    def kill(self, gateway: drive.Gateway, witness: Witness) -> list[Process]:
        """Kill the gateway as the kernel would; return what lives once nothing more ends."""
        self.screen.command("kill -KILL", str(gateway.pid))
        (process,) = [each for each in witness.known if each.pid == gateway.pid]
        process.kill()
        wait_for_end([process], EXIT_S)
        # a server takes a moment to end when its input ends
        count, since = len(witness.look()), time.monotonic()
        while time.monotonic() - since < QUIET_S:
            time.sleep(0.1)
            if len(witness.look()) != count:
                count, since = len(witness.living()), time.monotonic()
        return witness.living()

    def without(self) -> int:
        """Show what a killed gateway leaves by itself; return how many processes."""
        self.screen.title("1. As it is today: the gateway starts its servers itself")
        with self.gateway("bare", "--bare") as (gateway, witness):
            left = self.kill(gateway, witness)
            self.screen.bad(
                f"{len(left)} processes are left, and nothing on this machine says of whom:"
            )
            relays_last = sorted(left, key=lambda process: "--deaf" in process.argv)
            for process in relays_last[:5]:
                self.screen.detail(f"pid {process.pid}  parent {process.parent}  {shown(process)}")
            if len(left) > 5:
                self.screen.detail(f"and {len(left) - 5} more")
            count = len(left)
        self.screen.say("(ended by this demo, which had noted each of them before)")
        return count

    def contained(self, place: Place) -> bool:
        """Show the same with scopekeeper; return True if nothing was left in the end."""
        self.screen.title(
            "2. The same, each server behind `scopekeeper run -s SESSION -l LANE -n NAME --`"
        )
        placement = f"cgroup:{place.base}" if not place.manager else place.manager
        try:
            with self.gateway("contained", "--own", "--placement", placement) as (gateway, witness):
                started = [each for each in witness.living() if each.pid != gateway.pid]
                scopes = {each.cgroup.rpartition("/")[0] for each in started}
                self.ask("ls", "-s", self.session)
                left = self.kill(gateway, witness)
                self.screen.say(
                    f"{len(left)} processes are left, but each is in the scope of its session:"
                )
                self.show_by_leaf(scopes, left)
                self.ask("ls", "-s", self.session)
                self.ask("reconcile", "--owner", str(gateway.pid))
                return self.prove(witness, started, scopes) and bool(left)
        finally:
            drive.scopekeeper("stop", "-s", self.session, "--grace", "1s", env=os.environ)

    def show_by_leaf(self, scopes: set[str], left: list[Process]) -> None:
        """List the living processes by cgroup, as the kernel has them."""
        names = {process.pid: shown(process).split(" ")[0] for process in left}
        for scope in sorted(scopes):
            self.screen.detail(f"{scope}/")
            for path, pids in sorted(inhabitants(scope).items()):
                if pids:
                    member = path.rpartition("/")[2].replace("\\x2d", "-")
                    who = ", ".join(f"{names.get(pid, '?')} {pid}" for pid in pids)
                    self.screen.detail(f"  {member:24} {who}")

    def prove(self, witness: Witness, started: list[Process], scopes: set[str]) -> bool:
        """Look for survivors in three ways without scopekeeper; return True if there are none."""
        living = [process for process in started if process.lives()]
        living += [process for process in witness.look() if process not in living]
        carrying = [pid for scope in scopes for pid in
                    carriers("SCOPEKEEPER_SCOPE", scope.rpartition("/")[2])]  # fmt: skip
        inside = [pid for scope in scopes for pids in inhabitants(scope).values() for pid in pids]
        self.ask("ls", "-s", self.session)
        for what, found in (
            (f"of the {len(started)} processes seen at the start, live", [p.pid for p in living]),
            ("processes with the scope's mark in /proc/*/environ", carrying),
            ("processes in the scope's cgroup", inside),
        ):
            (self.screen.bad if found else self.screen.good)(f"{len(found)} {what}")
        return not (living or carrying or inside) and len(scopes) == 1

    def ask(self, *arguments: str) -> None:
        """Run scopekeeper as an operator would, on this screen."""
        self.screen.command("scopekeeper", *arguments)
        sys.stdout.flush()
        # straight to this screen, so that tables fit a terminal
        subprocess.run(
            [str(drive.SCOPEKEEPER), *arguments],
            stdin=subprocess.DEVNULL,
            env={**os.environ, "SCOPEKEEPER_STATE": str(self.folder / "state")},
            check=False,
        )


def shown(process: Process) -> str:
    """Return a short command line: programs without their folders and interpreters."""
    words = [word.rpartition("/")[2] for word in process.argv]
    while words[1:] and (words[0].startswith("python") or words[0].startswith("-")):
        words = words[1:]
    if words[0] == "sleep":
        kind = "in a session of its own" if process.session == process.pid else "forked twice"
        return f"helper of a server, {kind}"
    return " ".join(words)


def where() -> Place:
    """Return where scopes go on this machine; become root if only root can create them."""
    try:
        return find(Caller())
    except (ScopekeeperError, LookupError) as error:
        if os.getuid() != 0 and shutil.which("sudo"):
            print(f"{error}\nTrying again with sudo.", flush=True)
            os.execvp("sudo", ["sudo", sys.executable, "-m", "tests.demo"])
        print(f"demo: nothing can be contained on this machine: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def machine(place: Place) -> str:
    """Return one line about this machine."""
    with contextlib.suppress(OSError):
        system = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    kind = {
        "user": f"your own systemd manager ({place.base})",
        "system": f"the system's systemd manager ({place.base})",
    }.get(place.manager, f"a delegated cgroup, {place.base} (no systemd manager to ask)")
    return f"{system}, Python {platform.python_version()}; scopes are made in {kind}"


def leave(number: int, _frame: FrameType | None) -> NoReturn:
    """Exit in order, once: a second Ctrl-C must not interrupt the clean-up."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        print("\ninterrupted; ending what was started", file=sys.stderr, flush=True)
    raise SystemExit(128 + number)


def main() -> int:
    """Run the demo; return 0 only if nothing was left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
    screen = Screen()
    place = where()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="scopekeeper-demo-") as folder:
        errors = Path(folder) / "errors.txt"
        demo = Demo(screen, Path(folder), errors)
        print(machine(place))
        try:
            leaked = demo.without()
            proved = demo.contained(place)
        except drive.NotReadyError as error:
            screen.bad(f"the gateway did not come up: {error}")
            screen.output(errors.read_text())
            return 1
    seconds = time.monotonic() - began
    if not proved:
        screen.title("The proof failed: something is left, see above.")
        return 1
    screen.title(f"Killed the same way: {leaked} processes left without scopekeeper, 0 with it. "
                 f"({seconds:.0f} s)")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
