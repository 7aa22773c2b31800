"""A gateway as its author would write it, for mypy alone: nothing runs this.

mypy is strict, so an error that is expected below and does not come is one too.
"""

import asyncio
import datetime as dt
import subprocess

import scopekeeper
from scopekeeper import Cohort, Options, Result, Selection

from scopekeeper import stopp  # type: ignore[attr-defined]  # isort: skip

limits: Options = {"ttl": dt.timedelta(hours=1), "memory_max": "2G", "grace": 3}
which: Selection = {"session": "s", "mine": True}

with Cohort("s", **limits) as cohort:
    server = cohort.spawn(["cat"], name="cat", stdin=subprocess.PIPE, text=True, pass_fds=(3,))
    cohort.spawn(["cat"], nam="cat")  # type: ignore[call-arg]
    results: list[Result] = cohort.stop(grace="3s", note="done")
    print(server.directory, results[0].target.unit, results[0].remaining)

scopekeeper.spawn(["cat"], session="s", ttl=3, env={"A": "b"}, cwd="/")
scopekeeper.spawn(["cat"], sesion="s")  # type: ignore[call-arg]
scopekeeper.nonsense  # type: ignore[attr-defined]  # noqa: B018
print(stopp)


async def serve() -> None:
    """Start a member in a loop."""
    async with Cohort("s") as cohort:
        member = await cohort.spawn_async(["cat"], limit=1 << 20, stdout=subprocess.PIPE)
        await cohort.spawn_async(["cat"], limits=5)  # type: ignore[call-arg]
        print(member.directory, member.member)


try:
    scopekeeper.stop(**which)
except scopekeeper.errors.RemainsError as error:
    print(error.results[0].outcome, error.hint)
    print(error.results[0].outcom)  # type: ignore[attr-defined]
asyncio.run(serve())
