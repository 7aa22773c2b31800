"""The loop of ``top``: looks at the machine, draws, takes keys, and does what they ask for.

Nothing that takes long is done in the loop: a stop runs in a thread, ``why`` and ``attach`` as
processes of their own.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from scopekeeper.cli.list_where import Condition, arranged
from scopekeeper.cli.top import commands, layout, row_filter
from scopekeeper.cli.top import rows as top_rows
from scopekeeper.cli.top.fleet import Fleet
from scopekeeper.cli.top.layout import Scene
from scopekeeper.cli.top.log import WarningsShown
from scopekeeper.cli.top.machine import Machine
from scopekeeper.cli.top.pace import Pace
from scopekeeper.cli.top.rows import Shown, TopRow
from scopekeeper.cli.top.screen import Screen
from scopekeeper.cli.top.state import Action, Ask, Page, Room, State, press, settle
from scopekeeper.errors import words
from scopekeeper.safe_text import safe
from scopekeeper.scope.selection import Selector


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the call asks for."""

    mount: str
    uid: int | None
    """Of this user only; None for all users."""
    selector: Selector
    conditions: tuple[Condition, ...] = ()
    delay: float | None = None
    """Seconds between looks; None is two, and longer where a look takes long."""
    hosts: tuple[str, ...] = ()
    """The machines that are asked by ssh, instead of this one."""
    words: tuple[str, ...] = ()
    """What each of them is called with."""


class Live:
    """One call of ``top``, from its first picture to its last."""

    def __init__(self, screen: Screen, wanted: Wanted, state: State) -> None:
        self._screen, self._wanted, self._state = screen, wanted, state
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[int] = self._loop.create_future()
        self._source: Machine | Fleet
        if wanted.hosts:
            self._source = Fleet(wanted.hosts, wanted.words, self._changed, self._page_changed)
        else:
            self._source = Machine(
                wanted.mount, wanted.uid, wanted.selector, self._changed, lambda: screen.size[0]
            )
        self._measured: list[TopRow] = []
        self._rows: list[TopRow] = []
        self._arrangement: tuple[object, ...] | None = None
        self._next: asyncio.TimerHandle | None = None
        self._soon: asyncio.TimerHandle | None = None
        self._pace = Pace(wanted.delay)
        self._worker = ThreadPoolExecutor(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stops: list[Future[list[str]]] = []
        """Stops that have begun; those that are proved and shown are taken out."""
        self._is_away = False
        """Whether something else has the terminal."""
        self._program: asyncio.subprocess.Process | None = None
        self._pages = self._source.pages
        self._log = WarningsShown(self._say)

    async def run(self) -> int:
        """Show it until the end; return the signal that ended it, 0 if a key did."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:
                self._loop.add_signal_handler(number, self._leave, number)
        self._loop.add_signal_handler(signal.SIGWINCH, self._resized)
        self._loop.add_signal_handler(signal.SIGTSTP, self._suspend)
        self._loop.add_signal_handler(signal.SIGCONT, self._continued)
        self._loop.add_reader(0, self._typed)
        with self._log:
            if self._source.problem:
                self._say(self._source.problem)
            self._tick()
            try:
                return await self._over
            finally:
                self._close()

    def _close(self) -> None:
        self._loop.remove_reader(0)
        for handle in (self._next, self._soon):
            if handle is not None:
                handle.cancel()
        for task in self._tasks:
            task.cancel()
        if self._program is not None:
            with contextlib.suppress(ProcessLookupError):
                self._program.terminate()
        self._source.close()

    @property
    def is_stopping(self) -> bool:
        """Whether a stop is not proved yet."""
        return any(not each.done() for each in self._stops)

    def wait(self) -> list[str]:
        """Wait until what was begun is proved; return a line for each outcome not shown yet."""
        self._worker.shutdown(wait=True)
        return [line for each in self._stops for line in _outcome(each)]

    # Looks

    def _tick(self) -> None:
        """Look at everything, draw it, and plan the next look."""
        began = time.process_time()
        if not self._is_away:
            with self._reported():
                self._source.look(self._visible(), members=self._state.members)
                self._refresh()
        pause = self._pace.after_look(time.process_time() - began)
        self._next = self._loop.call_later(pause, self._tick)

    def _changed(self) -> None:
        """Look soon at what events came of."""
        if self._soon is None:
            self._soon = self._loop.call_later(self._pace.until_events(), self._look_soon)

    def _look_soon(self) -> None:
        self._soon = None
        if self._is_away:
            return
        began = time.process_time()
        with self._reported():
            self._source.look_soon(members=self._state.members)
            self._refresh()
        self._pace.after_events(time.process_time() - began)

    def _visible(self) -> list[str]:
        room = self._room()
        shown = self._rows[self._state.first : self._state.first + room.rows]
        return [scope.directory for row in shown for scope in row.of.scopes]

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        """Show an error instead of ending: the next look may succeed."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  one look must not end the view
            self._say(words(error))

    def _refresh(self) -> None:
        """Take over what was measured, and draw it."""
        self._measured = self._source.rows(members=self._state.members)
        self._arrange()
        self._write_page()
        self._draw()

    def _arrange(self) -> None:
        state = self._state
        rows = self._measured
        with contextlib.suppress(ValueError):  # only a filter that is one is in force
            wanted = row_filter.parse(state.filtered, time.time(), self._wanted.conditions)
            rows = [row for row in rows if wanted.holds(row)]
        if state.folds or state.unlike:
            rows = top_rows.fold(rows, every=state.folds, unlike=state.unlike)
        self._rows = arranged(rows, lambda row: row.cells, (), state.orders)
        self._arrangement = state.arrangement
        self._state = settle(state, self._rows, self._room())

    def _room(self) -> Room:
        return layout.room_of(self._state, *self._screen.size)

    def _draw(self) -> None:
        if self._is_away:
            return
        scene = Scene(
            self._rows, time.time(), self._source.load, self._source.cpu, self._note(),
            self._empty(), self._wanted.uid is None, self._screen.coloured, self._source.hosts,
        )  # fmt: skip
        self._screen.draw(layout.draw(self._state, scene, *self._screen.size))

    def _note(self) -> str:
        notes = list(self._source.notes)
        if self.is_stopping:
            notes.insert(0, "stopping")
        return "; ".join(notes)

    def _empty(self) -> str:
        if self._measured:
            return "no row is like the filter; Esc shows all"
        return self._source.empty

    def _say(self, text: str) -> None:
        self._state = replace(self._state, message=safe(text))

    # The terminal

    def _typed(self) -> None:
        keys = self._screen.keys()
        if not keys and self._screen.is_gone():
            self._leave(signal.SIGHUP)
            return
        for key in keys:
            self._press(key)
            if self._over.done() or self._is_away:
                return
        self._draw()

    def _press(self, key: str) -> None:
        before = self._state
        self._state, action = press(before, key, self._rows, self._room(), time.time())
        if self._state.members is not before.members:
            self._source.look((), members=self._state.members)
            self._measured = self._source.rows(members=self._state.members)
        if self._state.arrangement != before.arrangement:
            self._arrange()
        if action is not None:
            self._do(action)

    def _resized(self) -> None:
        if not self._is_away:
            self._screen.resize()
            self._state = settle(self._state, self._rows, self._room())
            self._write_page()
            self._draw()

    def _suspend(self) -> None:
        """Let Ctrl-Z stop it, if a shell is there that can continue it: the kernel knows."""
        if not self._is_away:
            self._screen.end()
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTSTP)
            self._loop.add_signal_handler(signal.SIGTSTP, self._suspend)
            self._continued()

    def _continued(self) -> None:
        if not self._is_away:
            self._screen.again()
            self._resized()

    def _leave(self, number: int) -> None:
        if not self._over.done():
            self._over.set_result(number)

    # What keys ask for

    def _do(self, action: Action) -> None:
        shown = action.shown
        if action.what == "quit":
            self._leave(0)
        elif action.what == "redraw":
            self._screen.resize()
            with self._reported():
                self._source.look(self._visible(), members=self._state.members)
                self._refresh()
        elif action.what == "stop":
            self._stop(action.target)
        elif shown is not None and action.what == "ask":
            self._spawn(self._ask(shown))
        elif shown is not None and action.what == "attach":
            self._attach(shown)
        elif shown is not None:
            self._open(action.what, shown)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001  it is shown, and the view goes on
            self._say(words(error))
        self._draw()

    def _in_worker(self, work: Callable[..., Any], *arguments: object) -> Awaitable[Any]:
        return self._loop.run_in_executor(self._worker, work, *arguments)

    async def _ask(self, shown: Shown) -> None:
        found = await self._in_worker(self._source.prepare, shown)
        self._screen.forget_typed()
        what = found if found.parts else None
        self._state = replace(self._state, ask=Ask(what, f"Stop {safe(shown.title)}", found.lines))

    def _stop(self, prepared: Any) -> None:  # noqa: ANN401  as it was prepared
        """Begin a stop; it goes on if this view ends."""
        stop = self._worker.submit(self._source.carry_out, prepared)
        self._stops.append(stop)
        self._say(f"stopping {safe(prepared.title)}")

        def over(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: wait() has the outcome
                self._loop.call_soon_threadsafe(self._stopped, stop)

        stop.add_done_callback(over)

    def _stopped(self, stop: "Future[list[str]]") -> None:
        if not self._over.done():
            self._stops.remove(stop)
            self._say("; ".join(_outcome(stop)))
            self._look_soon()

    def _attach(self, shown: Shown) -> None:
        run, problem = self._source.run_of(shown)
        if not run:
            self._say(problem)
            return
        self._spawn(self._attached(run))

    async def _attached(self, run: str) -> None:
        """Give the terminal to ``attach`` until it is over."""
        self._is_away = True
        self._loop.remove_reader(0)
        self._screen.end()
        problem = b""
        try:
            command = commands.attach(run)
            self._program = await asyncio.create_subprocess_exec(
                *command, stderr=asyncio.subprocess.PIPE
            )
            _, problem = await self._program.communicate()
        finally:
            self._program = None
            self._is_away = False
            if not self._over.done():
                self._screen.again()
                self._loop.add_reader(0, self._typed)
        self._say(commands.last_words(problem))
        self._refresh()

    def _open(self, what: str, shown: Shown) -> None:
        page = self._pages.open(what, shown)
        if isinstance(page, str):
            self._say(page)
            return
        self._state = replace(self._state, page=page)
        if what in ("details", "why"):
            self._spawn(self._ask_why(page))
        self._write_page()

    def _write_page(self) -> None:
        """Fill the page that is open with what is so now."""
        if self._state.page is not None:
            self._state = replace(self._state, page=self._pages.filled(self._state.page))

    def _page_changed(self) -> None:
        self._write_page()
        self._draw()

    async def _ask_why(self, page: Page) -> None:
        await self._pages.ask(page)
        self._write_page()


def _outcome(stop: "Future[list[str]]") -> list[str]:
    """Return a line for each outcome of a stop that is over, or why there is none."""
    error = stop.exception()
    return [words(error)] if isinstance(error, Exception) else [x.strip() for x in stop.result()]
