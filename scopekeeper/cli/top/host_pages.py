"""The pages of ``top -H``: what ``ps -H`` and ``why -H`` print of a row."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from scopekeeper.cli.top import commands
from scopekeeper.cli.top.rows import Shown
from scopekeeper.cli.top.state import Page
from scopekeeper.errors import NOTHING_MATCHED
from scopekeeper.safe_text import safe

_SECONDS = 90.0
"""The longest that a host may take to answer: the commands themselves wait for a minute."""
_TITLES = {"details": "", "why": "Why: "}


class HostPages:
    """The page that is open; more are options of each command.

    problem_of returns why a host has no scopes here; changed is called when a page has more lines.
    """

    def __init__(
        self, more: Sequence[str], problem_of: Callable[[str], str], changed: Callable[[], None]
    ) -> None:
        self._more, self._problem_of, self._changed = more, problem_of, changed
        self._lines: tuple[str, ...] = ()

    def open(self, what: str, shown: Shown) -> Page | str:
        """Return the page of a row, not filled yet; or why there is none."""
        if what == "output":
            run = shown.parts[0].scope.run or "RUN"
            return f"from here: `ssh -t {shown.host} scopekeeper logs -f {run}`"
        self._lines = (f"asking {shown.host} ...",)
        return Page(what, _TITLES[what] + safe(shown.title), shown=shown)

    def filled(self, page: Page) -> Page:
        """Return a page with what is known now."""
        return page if page.shown is None else replace(page, lines=self._lines)

    async def ask(self, page: Page) -> None:
        """Ask the host about a page, in processes of their own."""
        shown = page.shown
        if shown is None:
            return
        if not shown.parts[0].scope.unit:
            self._lines = (f"{shown.host}: {safe(self._problem_of(shown.host))}",)
            return
        lines: list[str] = []
        if page.what == "details":
            _, found = await _printed([*commands.program(), "ps", "-H", shown.host, *self._more,
                                       *commands.named(shown)])  # fmt: skip
            lines = [*found, "", "the last ends in it:"]
            self._lines = (*lines, f"asking {shown.host} ...")
            self._changed()
        status, found = await _printed(
            [*commands.why(shown, only_ends=page.what == "details"), *self._more]
        )
        if status == NOTHING_MATCHED or not (status or found):
            found = ["the history has no end of it"]
        self._lines = (*lines, *found)


async def _printed(words: Sequence[str]) -> tuple[int, list[str]]:
    """Return the exit status of a command, and the lines that it printed."""
    process = await asyncio.create_subprocess_exec(
        *words, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(_SECONDS):
            out, err = await process.communicate()
    except TimeoutError:
        return 1, ["no answer in time"]
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    text = (out + err).decode("utf-8", "backslashreplace")
    found = [safe(line.removeprefix("scopekeeper: ")) for line in text.splitlines()]
    return process.returncode or 0, found
