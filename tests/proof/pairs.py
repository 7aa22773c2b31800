"""Two commands at the same time on the same session, each struck at a point of its own."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.machine import PROGRAM
from tests.systemd.installed import UNIT
from tests.systemd.manager import systemctl_argv

from .steps import GONE, GRACE, STOPPED, armed, launched
from .world import NONE, Member, Ran, Strike, World

_RUN, _STOP, _RECONCILE = (125, 126), (1, 5, 6), (1, 5)


@dataclass
class Side:
    """One of the two."""

    argv: Sequence[str]
    statuses: tuple[int, ...]
    """What it may answer beside 0: the other one may be in its way, or have died there."""
    environment: dict[str, str] | None = None
    until: Member | None = None
    is_keeper: bool = False
    """Whether it starts the keeper, which is then what is struck."""


Sides = tuple[Side, Side]
Answer = tuple[Ran, tuple[int, ...]]
"""How a command ended, and how else it might have, beside by 0."""


@dataclass(frozen=True)
class Pair:
    """Two commands: ``prepare`` a world for them; ``judge`` what follows from their answers."""

    name: str
    prepare: Callable[[World], Sides]
    judge: Callable[[World, tuple[Ran, Ran], tuple[Strike, Strike]], None]
    keeper: bool = False
    """Whether a keeper belongs to it anyway."""

    def act(self, world: World, strikes: tuple[Strike, Strike], pause: float) -> list[Answer]:
        """Run both, the second one ``pause`` seconds after the first."""
        sides = self.prepare(world)
        words = list(strikes)
        for at, side in enumerate(sides):
            if side.is_keeper:
                world.keeper(armed(strikes[at]), start=False)
                words[at] = NONE
        first, second = (
            (side.argv, side.environment, strike, side.until)
            for side, strike in zip(sides, words, strict=True)
        )
        running = world.begin(*first)
        if pause:
            time.sleep(pause)
        beside = world.begin(*second)
        ran = world.end(running), world.end(beside)
        self.judge(world, ran, strikes)
        return [(each, side.statuses) for each, side in zip(ran, sides, strict=True)]


def _neighbour(world: World) -> None:
    """Start what nothing here may touch: a member of another session with another owner."""
    world.member("neighbour", world.owner(), may="lives", own=True, session=world.other)


def _old(world: World, owner: int) -> None:
    world.member("quick", owner, *GRACE, may="both", own=True, reasons=STOPPED)
    world.member("stubborn", owner, *GRACE, may="both", reasons=STOPPED, PROOF_STUBBORN="1")


def _stop(world: World) -> Side:
    return Side([PROGRAM, "stop", "-s", world.session], _STOP)


def _run(world: World, owner: int, name: str, reasons: tuple[str, ...] = ()) -> Side:
    argv = world.argv(name, owner, *GRACE, may="both", own=True, reasons=reasons)
    # a stop may end the command as it begins
    statuses = (*_RUN, -9, -15) if reasons else _RUN
    return Side(argv, statuses, world.of(name), world.members[name])


def _ended(world: World, ran: Ran) -> None:
    """Have a stop that answered 0 be right."""
    if ran.status == 0:
        for name in ("quick", "stubborn"):
            world.members[name].may = "ends"


def _run_stop(world: World) -> Sides:
    owner = world.owner()
    _neighbour(world)
    _old(world, owner)
    return _run(world, owner, "server", STOPPED), _stop(world)


def _after_run_stop(world: World, ran: tuple[Ran, Ran], _: tuple[Strike, Strike]) -> None:
    world.members["server"].given_up = ran[0].status in (125, 126, 127)
    _ended(world, ran[1])


def _stop_stop(world: World) -> Sides:
    _neighbour(world)
    _old(world, world.owner())
    return _stop(world), _stop(world)


def _after_stops(world: World, ran: tuple[Ran, Ran], _: tuple[Strike, Strike]) -> None:
    _ended(world, ran[0])
    _ended(world, ran[1])


def _orphans(world: World) -> int:
    """Start members of an owner that has ended, beside one that has to live; return its pid."""
    dead = world.owner()
    world.member("kept", world.owner(), *GRACE, may="lives", own=True)
    world.member("one", dead, *GRACE, may="ends", own=True, reasons=GONE)
    world.member("two", dead, *GRACE, may="ends", reasons=GONE, PROOF_STUBBORN="1")
    world.end_owner(dead)
    return dead


def _reconcile_run(world: World) -> Sides:
    _orphans(world)
    return Side([PROGRAM, "reconcile"], _RECONCILE), _run(world, world.owner(), "server")


def _after_run(world: World, ran: tuple[Ran, Ran], strikes: tuple[Strike, Strike]) -> None:
    launched(world, ran[1], strikes[1])


def _keeper_stop(world: World) -> Sides:
    _neighbour(world)
    _old(world, world.owner())
    return Side(systemctl_argv("start", "--no-block", UNIT), (), is_keeper=True), _stop(world)


def _after_stop(world: World, ran: tuple[Ran, Ran], _: tuple[Strike, Strike]) -> None:
    _ended(world, ran[1])


def _exec_stop(world: World) -> Sides:
    world.keeper()
    _neighbour(world)
    _old(world, world.owner())
    argv = world.argv("server", 0, "-n", "server", may="both", reasons=STOPPED, verb=("exec", "-d"))
    # the run is made and stopped before exec reports it, which then is its answer
    return Side(argv, (1, 125, 137, 143), world.of("server")), _stop(world)


def _adopt_reconcile(world: World) -> Sides:
    dead, new = _orphans(world), world.owner()
    for name in ("one", "two"):
        world.members[name].may = "both"
    argv = [PROGRAM, "adopt", "-s", world.session, "--from", str(dead), "--owner", str(new)]
    return Side(argv, (1, 4)), Side([PROGRAM, "reconcile"], _RECONCILE)


def _nothing(world: World, ran: tuple[Ran, Ran], strikes: tuple[Strike, Strike]) -> None:
    """What lives has an owner, and what has ended has a reason: ``checks`` looks for both."""


def _run_run(world: World) -> Sides:
    _neighbour(world)
    owner = world.owner()
    return _run(world, owner, "one"), _run(world, owner, "two")


def _after_runs(world: World, ran: tuple[Ran, Ran], strikes: tuple[Strike, Strike]) -> None:
    for name, each, strike in zip(("one", "two"), ran, strikes, strict=True):
        launched(world, each, strike, name)


PAIRS = (
    Pair("run + stop", _run_stop, _after_run_stop),
    Pair("stop + stop", _stop_stop, _after_stops),
    Pair("reconcile + run", _reconcile_run, _after_run),
    Pair("keeper + stop", _keeper_stop, _after_stop, keeper=True),
    Pair("exec + stop", _exec_stop, _after_run_stop, keeper=True),
    Pair("adopt + reconcile", _adopt_reconcile, _nothing),
    Pair("run + run", _run_run, _after_runs),
)
