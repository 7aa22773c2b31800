"""The commands under fire: what is there before each, what it may answer, what may become of it."""

import os
import re
import shutil
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.machine import PROGRAM, eventually
from tests.systemd.installed import UNIT
from tests.systemd.manager import systemctl

from .world import LIMIT, NONE, Ran, Strike, World

GRACE = ("--grace", "150ms")
GONE = ("owner gone",)
STOPPED = ("stopped by request",)
CONFIG = '{\n  // kept\n  "mcpServers": {"time": {"command": "cat", "args": ["-u"]}}\n}\n'


@dataclass(frozen=True)
class Step:
    """One command: ``act`` prepares a world and runs it under fire, ``mend`` is done afterwards."""

    name: str
    act: Callable[["World", Strike], Ran]
    statuses: tuple[int, ...]
    """What it may answer, beside 0, where a call of the machine fails."""
    mend: Callable[["World"], None] | None = None
    keeper: bool = False
    """Whether a keeper belongs to it anyway."""
    always: bool = False
    """Whether it may answer so in any machine."""
    weight: float = 1.0
    """How often it is drawn: what takes long is drawn less often."""
    alone: bool = False
    """Whether a keeper beside it would be in its way."""


def _launch(world: World, owner: int, *options: str, own: bool, strike: Strike) -> Ran:
    argv = world.argv("server", owner, *options, may="both", own=own)
    ran = world.call(argv, world.of("server"), strike, world.members["server"])
    launched(world, ran, strike)
    return ran


def launched(world: World, ran: Ran, strike: Strike, name: str = "server") -> None:
    """Note what a launch has promised: its command runs, or nothing was started."""
    member = world.members[name]
    member.given_up = ran.status in (125, 126, 127)
    if strike.after is None and not strike.at_execve:
        if ran.status == 0 and not member.began:
            world.notes.append("lost: run answered 0, and its command never began")
        if member.began:  # its owner lives
            member.may = "lives"


def run_new(world: World, strike: Strike) -> Ran:
    return _launch(world, world.owner(), own=False, strike=strike)


def run_join(world: World, strike: Strike) -> Ran:
    owner = world.owner()
    world.member("kept", owner, may="lives")
    return _launch(world, owner, own=False, strike=strike)


def run_own(world: World, strike: Strike) -> Ran:
    owner = world.owner()
    world.member("kept", owner, may="lives", own=True)
    return _launch(world, owner, own=True, strike=strike)


def run_replace(world: World, strike: Strike) -> Ran:
    owner = world.owner()
    world.member("kept", owner, may="lives")
    world.member("server", owner, may="both", reasons=("superseded",))
    world.members["earlier"] = world.members.pop("server")
    world.members["earlier"].file.rename(world.folder / "ready.earlier")
    world.members["earlier"].file = world.folder / "ready.earlier"
    return _launch(world, owner, "--replace", own=False, strike=strike)


def stop(world: World, strike: Strike) -> Ran:
    owner = world.owner()
    world.member("quick", owner, *GRACE, may="both", own=True, reasons=STOPPED)
    world.member("stubborn", owner, *GRACE, may="both", reasons=STOPPED,
                 PROOF_STUBBORN="1")  # fmt: skip
    ran = world.call([PROGRAM, "stop", "-s", world.session], None, strike)
    if ran.status == 0:
        world.members["quick"].may = world.members["stubborn"].may = "ends"
    return ran


def stop_member(world: World, strike: Strike) -> Ran:
    owner = world.owner()
    world.member("kept", owner, *GRACE, may="lives", own=True)
    world.member("server", owner, *GRACE, may="both", own=True, reasons=STOPPED)
    argv = [PROGRAM, "stop", "-s", world.session, "-n", "server"]
    ran = world.call(argv, None, strike)
    if ran.status == 0:
        world.members["server"].may = "ends"
    return ran


def reconcile(world: World, strike: Strike) -> Ran:
    dead = world.owner()
    world.member("kept", world.owner(), *GRACE, may="lives", own=True)
    world.member("server", dead, *GRACE, may="ends", own=True, reasons=GONE)
    world.member("stubborn", dead, *GRACE, may="ends", reasons=GONE, PROOF_STUBBORN="1")
    world.end_owner(dead)
    return world.call([PROGRAM, "reconcile"], None, strike)


def adopt(world: World, strike: Strike) -> Ran:
    dead, new = world.owner(), world.owner()
    world.member("kept", new, may="lives")
    world.member("one", dead, may="both", own=True, reasons=GONE)
    world.member("two", dead, may="both", reasons=GONE)
    world.end_owner(dead)
    argv = [PROGRAM, "adopt", "-s", world.session, "--from", str(dead), "--owner", str(new)]
    ran = world.call(argv, None, strike)
    if ran.status == 0:
        world.members["one"].may = world.members["two"].may = "lives"
    return ran


def own_removal(world: World, strike: Strike) -> Ran:
    owner = world.owner()
    world.member("kept", owner, may="lives", own=True)
    ended = world.member("server", owner, may="ends", own=True, reasons=("unknown", "signalled"))
    os.kill(ended.pid, signal.SIGKILL)
    eventually(lambda: not ended.lives)
    return world.call([PROGRAM, "reconcile"], None, strike)


def history(world: World, strike: Strike) -> Ran:
    owner = world.owner()
    for name in ("one", "two", "three"):
        each = world.member(name, owner, may="ends", reasons=("unknown", "signalled"))
        os.kill(each.pid, signal.SIGKILL)
        eventually(lambda each=each: not each.lives)
    return world.call([PROGRAM, "history", "--json"], None, strike)


def armed(strike: Strike) -> Strike:
    """Return what befalls the keeper, which kills it by its unit at a moment."""
    if strike.after is not None:
        kill = ("kill", "--signal=SIGKILL", UNIT)
        threading.Timer(strike.after, systemctl, kill).start()
    return strike if strike.argv else Strike(("env",))


def was_begun(world: World) -> None:
    """Wait until the first life of the keeper has begun."""
    eventually(lambda: not (world.folder / "armed").exists())


def run_begins_keeper(world: World, strike: Strike) -> Ran:
    """The keeper, as systemd starts it with the scope of a launch."""
    world.keeper(armed(strike), start=False)
    argv = world.argv("server", world.owner(), may="both")
    ran = world.call(argv, world.of("server"), until=world.members["server"])
    launched(world, ran, NONE)
    was_begun(world)
    return Ran(("scopekeeper", "keeper"), ran.status, ran.text)


def keeper(world: World, strike: Strike) -> Ran:
    """The keeper itself, from its start to the ends of what a dead gateway has left."""
    dead = world.owner()
    world.member("kept", world.owner(), *GRACE, may="lives", own=True)
    world.member("server", dead, *GRACE, may="ends", own=True, reasons=GONE)
    world.member("stubborn", dead, *GRACE, may="ends", reasons=GONE, PROOF_STUBBORN="1")
    world.end_owner(dead)
    world.keeper(armed(strike))
    was_begun(world)
    return Ran(("scopekeeper", "keeper"), 0, "")


def _run_of(world: World, strike: Strike, lines: int) -> Ran:
    verb = ("exec", "-d")
    argv = world.argv("server", 0, "-n", "server", may="both", verb=verb)
    environment = world.of("server", PROOF_LINES=str(lines))
    ran = world.call(argv, environment, strike)
    member = world.members["server"]
    # at the execve of its launch, a strike ends the command itself as it begins
    if ran.status == 0 and not strike.at_execve:
        member.may = "lives"
        run = re.findall(r"^[0-9a-f]{8}$", ran.text, re.MULTILINE)[0]  # beside warnings
        world.runs[run] = lines
        try:
            eventually(lambda: member.began, LIMIT)
        except AssertionError:
            world.notes.append("lost: exec answered 0, and its command never began")
    member.given_up = ran.status in (125, 126, 127)
    return ran


def exec_client(world: World, strike: Strike) -> Ran:
    world.keeper()
    return _run_of(world, strike, 0)


def exec_keeper(world: World, strike: Strike) -> Ran:
    """The keeper, while it is handed a terminal and records it; what is printed stays whole."""
    world.keeper(armed(strike), start=False)
    return _run_of(world, NONE, 300)


def whole_output(world: World) -> None:
    """Note what a run has printed and its log does not have, or has twice."""
    for run, lines in world.runs.items():
        wanted = [f"line {number}" for number in range(lines)]
        got: list[str] = []

        def complete(run: str = run, wanted: list[str] = wanted, got: list[str] = got) -> bool:
            got[:] = world.call([PROGRAM, "logs", "--text", run]).text.splitlines()
            return got == wanted

        try:
            eventually(complete, 10, 0.2)
        except AssertionError:
            world.notes.append(
                f"lost: of {lines} lines of {run}, the log has {len(got)}: {got[:3]}"
            )


def wrap(world: World, strike: Strike) -> Ran:
    file = world.folder / "config.json"
    file.write_text(CONFIG)
    file.with_name("good.json").write_text(CONFIG)
    assert world.call([PROGRAM, "wrap", str(file.with_name("good.json"))]).status == 0
    return world.call([PROGRAM, "wrap", str(file)], None, strike)


def wrap_again(world: World) -> None:
    """The file is whole, the next wrap completes it, and unwrap gives it back to the byte."""
    file, good = world.folder / "config.json", world.folder / "good.json"
    wanted = good.read_text()
    if file.read_text() not in (CONFIG, wanted):
        world.notes.append(f"lost: wrap left {file.read_text()!r}")
    world.call([PROGRAM, "wrap", str(file)])
    if file.read_text() != wanted:
        world.notes.append(f"lost: a second wrap left {file.read_text()!r}")
    world.call([PROGRAM, "unwrap", str(file)])
    if file.read_text() != CONFIG:
        world.notes.append(f"lost: unwrap left {file.read_text()!r}")
    left = [each.name for each in world.folder.glob("*config.json*") if each != file]
    extra = [each for each in left if "backup" not in each and "bak" not in each]
    if extra:
        world.notes.append(f"left: wrap left {', '.join(extra)}")


def install(world: World, strike: Strike) -> Ran:
    world.installs = True
    return world.call([PROGRAM, "install"], None, strike)


def installed_again(world: World) -> None:
    """The next install completes it, and uninstall leaves nothing."""
    for command in ("install", "uninstall"):
        ran = world.call([PROGRAM, command])
        if ran.status != 0:
            world.notes.append(f"lost: {command} afterwards answered {ran.status}: {ran.text}")
    folder = Path("/etc/systemd/system" if os.geteuid() == 0 else Path.home() / ".config/systemd")
    left = [str(each) for each in folder.rglob("*scopekeeper*")]
    if left:
        world.notes.append(f"left: uninstall left {', '.join(left)}")
        for each in left:
            shutil.rmtree(each) if os.path.isdir(each) else os.unlink(each)
        systemctl("daemon-reload")


def uninstall(world: World, strike: Strike) -> Ran:
    world.installs = True
    assert world.call([PROGRAM, "install"]).status == 0
    return world.call([PROGRAM, "uninstall"], None, strike)


def doctor(world: World, strike: Strike) -> Ran:
    """Its trial starts and stops a member of its own, and leaves nothing."""
    world.member("kept", world.owner(), may="lives", own=True)
    return world.call([PROGRAM, "doctor"], None, strike)


STEPS = (
    Step("run, new scope", run_new, (125, 126)),
    Step("run, joining", run_join, (125, 126)),
    Step("run --own", run_own, (125, 126)),
    Step("run --replace", run_replace, (125, 126)),
    Step("stop", stop, (1, 5, 6)),
    Step("stop of a member", stop_member, (1, 5, 6)),
    Step("reconcile", reconcile, (1, 5)),
    Step("adopt", adopt, (1, 4)),
    Step("own-path removal", own_removal, (1, 5)),
    Step("history write", history, (1,)),
    Step("keeper start", keeper, (), keeper=True),
    Step("keeper, by a launch", run_begins_keeper, (), keeper=True),
    Step("exec", exec_client, (1, 125), mend=whole_output, keeper=True),
    Step("PTY hand-over", exec_keeper, (1, 125), mend=whole_output, keeper=True),
    Step("wrap", wrap, (1,), mend=wrap_again),
    Step("install", install, (1,), mend=installed_again, alone=True, weight=0.4),
    Step("uninstall", uninstall, (1,), mend=installed_again, alone=True, weight=0.4),
    Step("doctor", doctor, (1, 2), always=True, weight=0.4),
)
