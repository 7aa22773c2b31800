"""What ``top`` shows of this machine, and what it does there."""

import asyncio
from collections.abc import Callable, Collection
from typing import Any

from scopekeeper.cli.show import unread_text
from scopekeeper.cli.top import page_lines
from scopekeeper.cli.top import rows as top_rows
from scopekeeper.cli.top.events import Events
from scopekeeper.cli.top.look import Looks
from scopekeeper.cli.top.pages import Pages
from scopekeeper.cli.top.rows import Measured, Shown, TopRow
from scopekeeper.kernel import machine_load
from scopekeeper.scope.selection import Selector


class Machine:
    """The scopes of this machine that a selector shows, of uid (None: of everybody).

    changed is called when something has changed; width returns the columns of the screen.
    """

    hosts: tuple[str, ...] = ()
    empty = "no scopes; `scopekeeper history` lists what ended"

    def __init__(
        self,
        mount: str,
        uid: int | None,
        selector: Selector,
        changed: Callable[[], None],
        width: Callable[[], int],
    ) -> None:
        self._mount, self._uid = mount, uid
        self._events = Events(asyncio.get_running_loop(), changed)
        self._looks = Looks(mount, uid, selector, lambda: self._events.sockets)
        self.pages = Pages(self._looks, width)
        self.load = machine_load.read()
        self.cpu: float | None = None
        """Percent of all CPUs, between the last two looks."""

    @property
    def problem(self) -> str:
        """Why no events come; '' if they do."""
        return f"without events: {self._events.problem}" if self._events.problem else ""

    @property
    def notes(self) -> list[str]:
        """What could not be read."""
        return unread_text(self._looks.unread)

    def look(self, visible: Collection[str], *, members: bool) -> None:
        """Look at everything; read in full what is visible, and what has changed."""
        load = machine_load.read()
        self.cpu = load.cpu_since(self.load)
        self.load = load
        wanted = {*visible, *self._events.take()}
        self._events.follow(self._looks.look(wanted, members=members))

    def look_soon(self, *, members: bool) -> None:
        """Look at what has changed."""
        self._events.follow(self._looks.look_at(self._events.take(), members=members))

    def measured(self, *, members: bool) -> list[Measured]:
        """Return the scopes, or their members, as of the last look."""
        return self._looks.measured(members=members)

    def rows(self, *, members: bool) -> list[TopRow]:
        """Return the rows as of the last look."""
        return [top_rows.row(each) for each in self.measured(members=members)]

    def run_of(self, shown: Shown) -> tuple[str, str]:
        """Return the run to attach to, or why there is none."""
        run = page_lines.run_of(shown)
        problem = "the keeper holds no terminal of it: only what `exec` started has one"
        return run, "" if run else problem

    def prepare(self, shown: Shown) -> Any:  # noqa: ANN401  see stop.Prepared
        """Return what a stop would end. Not for the main thread."""
        from scopekeeper.cli.top import stop  # loads all that acts

        return stop.prepare(shown, self._mount, self._uid)

    def carry_out(self, prepared: Any) -> list[str]:  # noqa: ANN401  as it was prepared
        """Stop it, and return a line for each outcome. Not for the main thread."""
        from scopekeeper.cli.top import stop

        return stop.carry_out(prepared, self._mount, self._uid)

    def close(self) -> None:
        """Stop watching."""
        self._events.close()
