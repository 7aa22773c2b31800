"""``scopekeeper watch``."""

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import signal
import stat
import sys
import time

import click

from scopekeeper.cli.examples import examples
from scopekeeper.cli.moments import briefly, when
from scopekeeper.cli.show import safe_json, say_missing_columns, terminal_width, with_no_trunc
from scopekeeper.cli.watch_line import HEADER, cells, line
from scopekeeper.keeper import notices
from scopekeeper.kernel.proc import boottime


@click.command(
    "watch", epilog=examples("scopekeeper watch", "scopekeeper watch -s agent:main:main --json")
)
@click.option("-s", "--session", metavar="KEY", help="Only this session, by its key or label.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@with_no_trunc
def command(session: str | None, as_json: bool, no_trunc: bool) -> None:
    """Print events of scopes as they happen, until interrupted.

    Needs no keeper. First it prints the scopes and members that exist, as those that run. The line
    ``watching`` on standard error marks the moment from which no event is missed, except of members
    that end within milliseconds of their start: `history` has these too.
    """
    began = boottime()
    printed = _Printed(no_trunc=no_trunc)

    def show(notice: notices.Notice) -> None:
        fields = notices.fields(notice)
        if isinstance(notice, notices.ScopeStarted | notices.MemberStarted):
            new = notice.scope if isinstance(notice, notices.ScopeStarted) else notice.member
            fields["present"] = new.born < began
        if session is None or session in (fields["session"], fields.get("label")):
            if as_json:
                click.echo(_as_json(fields))
            else:
                printed.event(fields)

    logging.basicConfig(format="scopekeeper: %(message)s", level=logging.WARNING)
    if not as_json:
        printed.header()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_watch(show))


async def _watch(show: "notices.Tell") -> None:
    """Show events until a signal; raises OSError if they cannot be written, or nobody reads."""
    from scopekeeper.keeper.tracker import Tracker
    from scopekeeper.scope.placement import Caller

    loop = asyncio.get_running_loop()
    leave: asyncio.Future[OSError | None] = loop.create_future()

    def end(problem: OSError | None = None) -> None:
        if not leave.done():
            leave.set_result(problem)

    def report(notice: notices.Notice) -> None:
        try:
            show(notice)
        except OSError as error:  # of standard output: watching goes on after errors of its own
            end(error)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    if _is_pipe(sys.stdout.fileno()):
        loop.add_reader(sys.stdout.fileno(), end, BrokenPipeError())
    tracker = Tracker(Caller(), report)
    tracker.start()
    click.echo("scopekeeper: watching; Ctrl-C ends it", err=True)
    problem = await leave
    await tracker.close()
    if problem is not None:
        raise problem


def _is_pipe(descriptor: int) -> bool:
    """Return whether this is the end of a pipe that only writes: epoll reports a lost reader."""
    is_writer = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
    return is_writer and stat.S_ISFIFO(os.fstat(descriptor).st_mode)


def _as_json(fields: "dict[str, notices.Value]") -> str:
    values = {key: safe_json(v) if isinstance(v, str) else v for key, v in fields.items()}
    return json.dumps({"version": 1, "time": time.time(), **values})


class _Printed:
    """Prints events as a table that has no end."""

    def __init__(self, *, no_trunc: bool) -> None:
        self._no_trunc = no_trunc
        self._dropped: tuple[str, ...] = ()
        self._has_cut = False

    def header(self) -> None:
        """Print the titles, and which of them this terminal has no room for."""
        width = self._width()
        titles = line(HEADER, width)
        self._dropped = titles.dropped
        click.echo(titles.text)
        if width is not None:
            say_missing_columns(titles.dropped, width, is_cut=False)

    def event(self, fields: "dict[str, notices.Value]") -> None:
        """Print an event; the titles again if the terminal was resized, and they differ now."""
        width = self._width()
        now = time.time_ns() // 1000
        clock = when(now) if width is None else briefly(now)
        row = line(cells(clock, fields), width)
        if row.dropped != self._dropped:
            self.header()
        click.echo(row.text)
        if width is not None and row.is_cut and not (self._has_cut or row.dropped):
            say_missing_columns((), width, is_cut=True)
            self._has_cut = True

    def _width(self) -> int | None:
        return None if self._no_trunc else terminal_width()
