"""``scopekeeper watch``."""

import asyncio
import contextlib
import json
import logging
import signal
import time

import click

from scopekeeper.cli.show import safe, safe_json
from scopekeeper.keeper import notices


@click.command("watch")
@click.option("-s", "--session", metavar="KEY", help="Only this session.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def command(session: str | None, as_json: bool) -> None:
    """Show what happens to scopes, as it happens, until interrupted.

    It looks for itself: a keeper need not run. First it shows what is there; ``watching`` on
    standard error says that from then on nothing is missed.
    """

    def tell(notice: notices.Notice) -> None:
        told = notices.fields(notice)
        if session is None or told["session"] == session:
            click.echo(_as_json(told) if as_json else _as_words(told))

    logging.basicConfig(format="scopekeeper: %(message)s", level=logging.WARNING)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_watch(tell))


async def _watch(tell: "notices.Tell") -> None:
    from scopekeeper.keeper.tracker import Tracker
    from scopekeeper.scope.placement import Caller

    leave = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leave.set)
    follower = Tracker(Caller(), tell)
    follower.start()
    click.echo("scopekeeper: watching; Ctrl-C ends it", err=True)
    await leave.wait()
    await follower.close()


def _as_json(told: "dict[str, notices.Value]") -> str:
    values = {key: safe_json(v) if isinstance(v, str) else v for key, v in told.items()}
    return json.dumps({"version": 1, "time": time.time(), **values})


def _as_words(told: "dict[str, notices.Value]") -> str:
    where = f"{told['session']}  {told['lane']}" + (f"  {told['run']}" if told["run"] else "")
    what = "".join(f"  {told[key]}" for key in ("member", "reason", "evidence") if told.get(key))
    return safe(f"{time.strftime('%H:%M:%S')}  {told['event']:13}  {where}{what}")
