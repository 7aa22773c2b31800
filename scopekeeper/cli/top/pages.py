"""Opens the pages of ``top`` and keeps them up to date."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace

from scopekeeper.cli.top import commands, page_lines
from scopekeeper.cli.top.look import Looks
from scopekeeper.cli.top.rows import Shown
from scopekeeper.cli.top.state import Page
from scopekeeper.safe_text import safe

_SECONDS = 20.0
"""The longest that the history may take to answer."""
_TITLES = {"details": "", "output": "Output of ", "why": "Why: "}


class Pages:
    """The page that is open; width returns the columns of the screen."""

    def __init__(self, looks: Looks, width: Callable[[], int]) -> None:
        self._looks, self._width = looks, width
        self._ends: tuple[str, ...] = ()
        """Why the last ones ended, of what the page is about."""
        self._stderr: dict[str, list[str]] = {}
        """What the journal has of members on the page, by leaf."""

    def open(self, what: str, shown: Shown) -> Page | str:
        """Return the page of a row, not filled yet; or why there is none."""
        if what == "output" and not page_lines.run_of(shown):
            return "its output goes to its client: only what `exec` started has a log"
        self._ends, self._stderr = ("asking the history ...",), {}
        title = _TITLES[what] + safe(shown.title)
        return Page(what, title, shown=shown, follows=what == "output")

    def filled(self, page: Page) -> Page:
        """Return a page with what is so now."""
        if page.shown is None:
            return page
        shown = self._as_of_now(page.shown)
        lines: list[str] = []
        if page.what == "output":
            run = page_lines.run_of(page.shown)
            lines = page_lines.output(run) if run else list(page.lines)
        if page.what == "details":
            lines = ["it has ended"]
            if shown is not None:
                lines = page_lines.details(shown, self._looks.whole(), self._width(), self._stderr)
            lines += ["", "the last ends in it:"]
        if page.what in ("details", "why"):
            lines += self._ends
        return replace(page, lines=tuple(lines), shown=shown or page.shown)

    def _as_of_now(self, shown: Shown) -> Shown | None:
        """Return what a row shows as of the last look; None if it is not there."""
        directories = {each.directory for each in shown.parts}
        has_members = any(each.member is not None for each in shown.parts)
        parts = tuple(
            each
            for each in self._looks.measured(members=has_members)
            if each.directory in directories or (shown.is_fold and each.session == shown.session)
        )
        return replace(shown, parts=parts) if parts else None

    async def ask(self, page: Page) -> None:
        """Ask the journal and the history about a page, the latter in a process of its own."""
        shown = page.shown
        if shown is None:
            return
        if page.what == "details":
            self._stderr = await asyncio.to_thread(page_lines.stderr_in_journal, shown)
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *commands.why(shown, only_ends=page.what == "details"),
            stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe,
        )  # fmt: skip
        printed, problem = b"", b""
        try:
            async with asyncio.timeout(_SECONDS):
                printed, problem = await process.communicate()
        except TimeoutError:
            self._ends = ("the history did not answer in time",)
        else:
            self._ends = tuple(commands.lines(process.returncode or 0, printed, problem))
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
