"""``scopekeeper top``."""

import os
import shutil
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from scopekeeper.cli import colour
from scopekeeper.cli.examples import examples
from scopekeeper.cli.list_options import FIELDS, Fields, with_where
from scopekeeper.cli.list_view import ListOptions
from scopekeeper.cli.on_hosts import options
from scopekeeper.cli.select_options import with_target_options
from scopekeeper.cli.top.rows import COLUMNS
from scopekeeper.cli.users import uid_of, with_all_users
from scopekeeper.errors import ScopekeeperError, UnavailableError, UsageError
from scopekeeper.kernel.proc import mount_point
from scopekeeper.quantities import duration
from scopekeeper.scope.selection import Selector

if TYPE_CHECKING:
    from scopekeeper.cli.top.live import Wanted
    from scopekeeper.cli.top.state import State

_LEAST, _MOST = 0.1, 86_400.0
"""Seconds of ``--delay``."""


@click.command(
    "top",
    epilog=examples(
        "scopekeeper top",
        "scopekeeper top --members --sort -memory",
        "scopekeeper top -s agent:main:main --where 'cpu%>50'",
        "scopekeeper top -H build1 -H build2",
    ),
)
@options.option
@with_target_options(words=False)
@click.option("-d", "--delay", metavar="DURATION", help="Time between looks. Default 2s, or longer "
              "if looks would take more than 3% of one CPU.")  # fmt: skip
@click.option("-m", "--members", is_flag=True, help="Show a row for each member.")
@click.option("--fold", is_flag=True, help="Show a row for each session.")
@with_all_users("Show the scopes of every user.")
@with_where(COLUMNS)
@click.option("--sort", metavar=FIELDS, type=Fields(COLUMNS), help="Sort by this field; -FIELD "
              "puts the largest first.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Instead, print a JSON object a line after "
              "each look, for as long as somebody reads it: -H asks for it.")  # fmt: skip
@colour.with_color
@click.pass_context
def command(
    context: click.Context,
    selector: Selector,
    hosts: tuple[str, ...],
    delay: str | None,
    members: bool,
    fold: bool,
    all_users: bool,
    where: tuple[str, ...],
    sort: str | None,
    color: str,
    as_json: bool,
) -> None:
    """Show scopes live, and act on them: open, stop, attach, why.

    Above the rows is the load of the machine. CPU% is of one CPU, since the look before. MEMORY has
    a bar if there is a limit. IDLE is for how long it has hardly used any CPU, as far as that was
    seen. What starts, ends, or loses its owner is shown at once.

    Keys: arrows, Enter opens a row, s stops it after a question, a attaches to a run, l shows its
    output, w why the last ones ended; M, C, I, A sort, / filters, m shows members, f folds
    sessions, ? lists all keys, q quits.

    With -H, it shows the scopes of these hosts, each over one connection that stays. A host that
    does not answer is a row, and is asked again. s and w act there, a and l do not.

    Exit status: 0 done; 2 wrong usage, or there is no terminal.
    """
    view = ListOptions(where=where, sort=sort, color=color).view(COLUMNS)
    seconds = _seconds(delay)
    if as_json:
        _stream(selector, seconds, hosts=hosts, all_users=all_users)
        return
    if not (os.isatty(0) and os.isatty(1)):
        raise UsageError(
            "top needs a terminal", "`scopekeeper ls` lists once, `scopekeeper watch` prints events"
        )
    from scopekeeper.cli.top.live import Wanted
    from scopekeeper.cli.top.state import State

    uid = None if hosts and all_users else uid_of(all_users=all_users)
    wanted = Wanted(mount_point(), uid, selector, tuple(view.conditions), seconds)
    if hosts:
        from scopekeeper.cli.on_hosts import call

        if shutil.which("ssh") is None:
            raise ScopekeeperError("ssh is not installed", "the package is openssh-client")
        words = call.sent(context, ("where", "sort", "color", "members", "fold"))
        wanted = replace(wanted, hosts=tuple(call.resolved(hosts)), words=tuple(words))
    state = State(orders=tuple(view.orders), members=members, folds=fold)
    _show(wanted, state, colours=view.coloured)


def _stream(
    selector: Selector, delay: float | None, *, hosts: tuple[str, ...], all_users: bool
) -> None:
    """Print looks until nobody reads them."""
    if hosts:
        raise UsageError("-H and --json exclude each other", "ask each host by ssh")
    import asyncio

    from scopekeeper.cli.top.stream import stream

    asyncio.run(stream(mount_point(), uid_of(all_users=all_users), selector, delay))


def _seconds(delay: str | None) -> float | None:
    if delay is None:
        return None
    try:
        seconds = duration("delay", delay) / 1e6
    except ValueError as error:
        raise UsageError(str(error)) from None
    if not _LEAST <= seconds <= _MOST:
        raise UsageError(f"--delay: {delay!r} is out of range", "write 0.1s to 1d")
    return seconds


def _show(wanted: "Wanted", state: "State", *, colours: bool) -> None:
    """Show it until a key or a signal ends it; a signal then ends this process as usual."""
    import asyncio

    try:
        from scopekeeper.cli.top.live import Live
        from scopekeeper.cli.top.screen import Screen
    except ImportError as error:  # some distributions have it in a package of its own
        raise UnavailableError(
            f"this Python has no curses ({error})", "install it, or use `scopekeeper ls`"
        ) from None

    lives: list[Live] = []

    async def show(screen: Screen) -> int:
        lives.append(Live(screen, wanted, state))
        return await lives[0].run()

    with Screen(colours=colours) as screen:
        number = asyncio.run(show(screen))
    (live,) = lives
    if not number and live.is_stopping:
        _say("waiting until the stop is proved")
    try:
        for line in () if number else live.wait():
            click.echo(line)
    except KeyboardInterrupt:
        number = signal.SIGINT
    if number and live.is_stopping:
        _say("a stop was begun; the keeper finishes it, or `scopekeeper reconcile`")
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    if number:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _say(text: str) -> None:
    click.echo(f"scopekeeper: {text}", err=True)
