"""``scopekeeper watch``."""

import asyncio
import contextlib
import json
import logging
import signal
import time

import click

from scopekeeper.cli.examples import examples
from scopekeeper.cli.show import safe_json, terminal_width
from scopekeeper.cli.watch_line import HEADER, cells, line
from scopekeeper.keeper import notices
from scopekeeper.kernel.proc import boottime


@click.command(
    "watch", epilog=examples("scopekeeper watch", "scopekeeper watch -s agent:main:main --json")
)
@click.option("-s", "--session", metavar="KEY", help="Only this session.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def command(session: str | None, as_json: bool) -> None:
    """Print events of scopes as they happen, until interrupted.

    Needs no keeper. First it prints the scopes and members that exist, as those that run. The line
    ``watching`` on standard error marks the moment from which no event is missed.
    """
    began = boottime()

    def show(notice: notices.Notice) -> None:
        fields = notices.fields(notice)
        if isinstance(notice, notices.ScopeStarted | notices.MemberStarted):
            new = notice.scope if isinstance(notice, notices.ScopeStarted) else notice.member
            fields["present"] = new.born < began
        if session is None or fields["session"] == session:
            click.echo(_as_json(fields) if as_json else _as_words(fields))

    logging.basicConfig(format="scopekeeper: %(message)s", level=logging.WARNING)
    if not as_json:
        click.echo(line(HEADER, terminal_width()))
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_watch(show))


async def _watch(show: "notices.Tell") -> None:
    from scopekeeper.keeper.tracker import Tracker
    from scopekeeper.scope.placement import Caller

    leave = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leave.set)
    tracker = Tracker(Caller(), show)
    tracker.start()
    click.echo("scopekeeper: watching; Ctrl-C ends it", err=True)
    await leave.wait()
    await tracker.close()


def _as_json(fields: "dict[str, notices.Value]") -> str:
    values = {key: safe_json(v) if isinstance(v, str) else v for key, v in fields.items()}
    return json.dumps({"version": 1, "time": time.time(), **values})


def _as_words(fields: "dict[str, notices.Value]") -> str:
    return line(cells(time.strftime("%H:%M:%S"), fields), terminal_width())
