"""One life of a client, from its start to what it leaves."""

import contextlib
import itertools
import os
import re
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from tempfile import TemporaryFile

from tests.e2e import census
from tests.e2e.census import Process
from tests.machine import eventually, is_alive
from tests.viewer import Viewer

from .desk import SERVERS, UNIT, Desk

KINDS = ("server", "helper", "worker")
HELPERS = ("group", "setsid")
WORKERS = ("command", "setsid")
STUBBORN = "trap : HUP TERM INT; while :; do sleep 1; done"
BACKGROUND = (
    f"E2E_WORKER=setsid setsid bash -c '{STUBBORN}' & E2E_WORKER=command exec bash -c '{STUBBORN}'"
)
"""A command that ignores what should end it, and starts another one in a session of its own."""
ECHO = "printf 'answer-%d' 42"
ANSWER = "answer-42"
START_S = 150.0
"""Within which a prompt is done up to what it holds; the first start in a machine compiles."""
END_S = 40.0
TURN_S, ENTER_S = 100, 10
"""How long a turn at a terminal may take, and after how long Enter is pressed again."""
LEFT_S = 10.0
"""Within which nothing of a session may be left after its client's end."""
WRONG = re.compile(r"(?im)^.*(?:\berror\b|\bfailed\b|scopekeeper).*$")
TIP = re.compile(r"✦ Tip:.*(?:\n\S.*)*")
"""What hermes-agent shows at its start, a different one each time: some are about errors."""
_NUMBERS = itertools.count(1)


class Life(ABC):
    """A client that runs."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.name = f"n{next(_NUMBERS)}"
        """unique to this life: in its script, and in the name of its unit"""
        self._before = frozenset(census.take().found)
        self.seen: frozenset[Process] = frozenset()
        """its processes, as ``work`` has found them"""

    @property
    @abstractmethod
    def pid(self) -> int:
        """Of the client."""

    @abstractmethod
    def shown(self) -> str:
        """Return what the client shows to its user."""

    @abstractmethod
    def close(self) -> None:
        """End the client itself, whatever it does."""

    @property
    def unit(self) -> str:
        """The scope that the client is started in."""
        return f"{UNIT}-{os.getpid()}-{self.name}"

    def steps(self, *, background: bool) -> list[str]:
        """Return the script of a turn: both servers, a command, and one that stays."""
        client = self.desk.client
        pings = [client.ping(name) for name in SERVERS]
        stays = [client.command(BACKGROUND, background=True)] if background else []
        return [*pings, client.command(ECHO), *stays]

    def answers(self) -> str:
        """Return what the tools have answered."""
        return "\n".join(self.desk.model.results(self.name))

    def work(self, *, background: bool) -> None:
        """Wait until everything runs that the turn has started, and remember it."""
        expected = sorted([*SERVERS, *HELPERS * len(SERVERS), *(WORKERS if background else ())])

        def there() -> frozenset[Process]:
            found = self.running()
            return found if sorted(each.name for each in found) == expected else frozenset()

        try:
            self.seen = eventually(there, END_S)
        except AssertionError:
            names = sorted(f"{each.kind} {each.name}" for each in self.running())
            raise AssertionError(f"{names}\n{self.answers()}\n{self.shown()}") from None

    def running(self) -> frozenset[Process]:
        """Return what runs that did not before this life began."""
        taken = census.take()
        return frozenset(each for each in taken.found if each.kind in KINDS) - self._before

    def wrong(self) -> list[str]:
        """Return the lines of what is shown that name an error."""
        return [line.strip() for line in WRONG.findall(TIP.sub("", self.shown()))]

    def signal(self, name: str) -> None:
        """Send a signal to the client."""
        os.kill(self.desk.client.itself(self.pid), signal.Signals[name])

    def ended(self) -> bool:
        """Return True if the client is gone."""
        return not is_alive(self.pid)

    def left(self) -> list[Process]:
        """Return what lives ten seconds after the client's end; at once if nothing does."""
        eventually(self.ended, END_S)
        deadline = time.monotonic() + LEFT_S
        while (found := self._left()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found

    def _left(self) -> list[Process]:
        return [each for each in self.seen if each.lives]


class Prompt(Life):
    """A client that has one prompt and no terminal."""

    def __init__(
        self, desk: Desk, *, background: bool, resumed: str = "", more: Sequence[str] = ()
    ) -> None:
        super().__init__(desk)
        script = "\n".join([
            *self.steps(background=background),
            *more,
            f'call: hold {{"name": "{self.name}"}}',
        ])  # fmt: skip
        client = desk.client
        words = client.resume(resumed, script) if resumed else client.once(script)
        self._output = TemporaryFile("w+")  # noqa: SIM115, it is closed with the life
        self._process = subprocess.Popen(
            desk.argv(words, self.unit),
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            eventually(lambda: desk.model.holds(self.name) or self.ended(), START_S)
            self.work(background=background)
        except AssertionError:
            self.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def shown(self) -> str:
        self._output.seek(0)
        return self._output.read()

    def ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def status(self) -> int | None:
        """The exit status of a client that has ended."""
        return self._process.returncode

    def finish(self) -> None:
        """Let the turn end, and with it the client."""
        self.desk.model.release(self.name)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._output.close()


class Screen(Life):
    """A client at a terminal."""

    def __init__(self, desk: Desk, *, background: bool) -> None:
        super().__init__(desk)
        argv = desk.argv(desk.client.terminal(), self.unit)
        self._viewer = Viewer(argv, cols=140, rows=45)
        self._pid = 0
        try:
            self._viewer.shows(desk.client.prompt_sign)
            self._pid = self._viewer.command
            self.work(background=False)
            self.turn(*self.steps(background=background))
            self.work(background=background)
        except AssertionError:
            self.close()
            raise

    @property
    def pid(self) -> int:
        return self._pid

    def shown(self) -> str:
        return "\n".join(self._viewer.picture())

    def turn(self, *steps: str) -> None:
        """Have a script done to its end, again if a server's tools were not offered yet."""
        for _ in range(5):
            if self._done(*steps):
                return
        raise AssertionError(self.shown())

    def _done(self, *steps: str) -> bool:
        """Paste a script, send it, and wait until the last word of its answer is shown."""
        last = f"end-of-{self.name}-{next(_NUMBERS)}"
        self._paste("\n".join([*steps, f"say: {last}"]), last)
        said = re.compile(rf"^(?!.*say:).*{last}", re.MULTILINE)
        refused = self.desk.model.refused
        for _ in range(TURN_S // ENTER_S):
            self._viewer.type("\r")  # right after a paste it may be taken for a part of that
            with contextlib.suppress(AssertionError):
                eventually(lambda: said.search(self.shown()) or refused(last), ENTER_S)
                return not refused(last)
        raise AssertionError(self.shown())

    def _paste(self, text: str, last: str) -> None:
        """Paste a text, again if it is lost: a client may not read while it draws its screen."""
        for _ in range(3):
            self._viewer.type(f"\x1b[200~{text}\x1b[201~")
            with contextlib.suppress(AssertionError):
                # several lines may be shown as "[Pasted text #1 +4 lines]"
                eventually(lambda: re.search(f"{last}|[Pp]aste", self.shown()), END_S / 2)
                return
        raise AssertionError(self.shown())

    def command(self, words: str) -> None:
        """Type a command of the client's own, and send it."""
        self._viewer.type(words)
        self._viewer.shows(words)
        self._viewer.type("\r")

    def press_until_end(self, key: str) -> None:
        """Press a key until the client ends, and Enter where it asks about what runs."""
        asks = self.desk.client.asks
        for _ in range(20):
            if self.ended():
                return
            self._viewer.type("\r" if asks and asks in self.shown() else key)
            with contextlib.suppress(AssertionError):
                eventually(self.ended, 0.7)  # twice within a second is what clients wait for

    def begin_anew(self) -> None:
        """Begin a new session in the same client, and have it do the same again."""
        before = self.seen
        for _ in range(5):
            self.command(self.desk.client.new_words)
            with contextlib.suppress(AssertionError):
                eventually(lambda: "end-of-" not in self.shown(), END_S / 4)
                break  # some refuse it for a moment after a turn
        assert "end-of-" not in self.shown(), self.shown()
        self.turn(*self.steps(background=True))

        def again() -> bool:
            new = self.running() - before
            return sorted(each.name for each in new if each.kind == "worker") == sorted(WORKERS)

        eventually(again, END_S)
        self.seen = self.running()

    def hang_up(self) -> None:
        """Close the terminal."""
        self._viewer.hang_up()

    def close(self) -> None:
        self._viewer.close()
