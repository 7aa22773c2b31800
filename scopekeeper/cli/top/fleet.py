"""What ``top -H`` shows of other hosts, and what it does there.

Each host is one process of ssh that stays and sends what is so there, again and again. One that
ends, or sends what cannot be read, is started again, later and later.
"""

import asyncio
import contextlib
import subprocess
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from scopekeeper.cli.top import commands, host_rows
from scopekeeper.cli.top import rows as top_rows
from scopekeeper.cli.top.host_pages import HostPages
from scopekeeper.cli.top.rows import NO_ANSWER, Shown, TopRow
from scopekeeper.errors import FAILED
from scopekeeper.hosts import answer, ssh
from scopekeeper.hosts.answer import BadAnswerError
from scopekeeper.hosts.ask import MOST_ERR, Reply
from scopekeeper.kernel.machine_load import MachineLoad
from scopekeeper.safe_text import safe

_LONGEST = 8 << 20
"""Bytes of a line: more than a thousand scopes have."""
_FIRST, _LAST = 1.0, 30.0
"""Seconds until a host is asked again: at first, and at most."""
_PATIENCE = 15.0
"""Seconds beyond what it has announced for which a host may be silent; then that is a row."""
_GIVEN_UP = 60.0
"""Seconds after that until its connection is given up."""
_REST, _TIMES = 0.2, 20
"""Seconds between two documents of one host, and at least so many times what reading one took: a
host that sends without end must not keep the view from drawing."""
_END = 1.0
"""Seconds in which ssh ends once its output has."""
_MARK = ssh.MARK.encode() + b"\n"


@dataclass(slots=True)
class _Host:
    name: str
    seen: host_rows.Seen | None = None
    problem: str = ""
    process: asyncio.subprocess.Process | None = None
    errors: bytearray = field(default_factory=bytearray)


@dataclass(frozen=True, slots=True)
class HostStop:
    """What a stop on another host would do; parts is () if nothing can be stopped."""

    title: str
    lines: tuple[str, ...]
    parts: tuple[str, ...] = ()
    """The words of the command that stops it there."""


class Fleet:
    """The scopes of several hosts; words is how each is called.

    changed is called when a host has sent something, or does not answer any more; page_changed when
    the page that is open has more.
    """

    problem = ""
    cpu: float | None = None
    empty = "no host"

    def __init__(
        self,
        hosts: Sequence[str],
        words: Sequence[str],
        changed: Callable[[], None],
        page_changed: Callable[[], None],
    ) -> None:
        self.load = MachineLoad()
        self._more = ["--all-users"] if "--all-users" in words else []
        self.pages = HostPages(self._more, self._problem_of, page_changed)
        self._hosts = {host: _Host(host) for host in hosts}
        self._words, self._changed = words, changed
        self._tasks = [asyncio.ensure_future(self._follow(x)) for x in self._hosts.values()]

    @property
    def hosts(self) -> tuple[str, ...]:
        """Two lines on the hosts: who does not answer and why, and the load of the others."""
        every = self._hosts.values()
        lost = [f"{x.name}: {x.problem}" for x in every if x.problem]
        one = f"{len(every)} host{'' if len(every) == 1 else 's'}"
        answering = sum(x.seen is not None and not x.problem for x in every)
        first = ", ".join([one if answering == len(every) else f"{answering} of {one} answer",
                           *lost])  # fmt: skip
        loads = [f"{x.name} {x.seen.load}" for x in every if x.seen and x.seen.load]
        return first, "; ".join(loads)

    @property
    def notes(self) -> list[str]:
        """What the hosts could not read."""
        return [
            f"{x.name}: {note}" for x in self._hosts.values() if x.seen for note in x.seen.notes
        ]

    def look(self, visible: Collection[str], *, members: bool) -> None:
        """Do nothing: the hosts look."""

    def look_soon(self, *, members: bool) -> None:
        """Do nothing: the hosts look."""

    def rows(self, *, members: bool) -> list[TopRow]:
        """Return the rows of each host: one at least."""
        found = []
        for host in self._hosts.values():
            if host.problem:
                found.append(host_rows.alone(host.name, NO_ANSWER, host.problem))
            else:
                found += host_rows.or_alone(host.name, host.seen, members=members)
        return [top_rows.row(each) for each in found]

    def run_of(self, shown: Shown) -> tuple[str, str]:
        """Return why there is no run to attach to: its terminal is on the other host."""
        run = shown.parts[0].scope.run or "RUN"
        return "", f"from here: `ssh -t {shown.host} scopekeeper attach {run}`"

    def prepare(self, shown: Shown) -> HostStop:
        """Return what a stop there would end. Not for the main thread."""
        title = shown.title
        if not shown.parts[0].scope.unit:
            return HostStop(title, (f"{title}: it shows no scope",))
        names = [x.scope.unit for x in shown.parts if x.member is None]
        names += [x.member.leaf for x in shown.parts if x.member is not None]
        words = ["stop", "-H", shown.host, *self._more, "--", *dict.fromkeys(names)]
        done = _call(["stop", "--dry-run", *words[1:]])
        lines = _lines(done)
        return HostStop(title, lines, () if done.returncode else tuple(words))

    def carry_out(self, prepared: HostStop) -> list[str]:
        """Stop it, and return a line for each outcome. Not for the main thread."""
        return list(_lines(_call(prepared.parts)))

    def close(self) -> None:
        """End the connections."""
        for task in self._tasks:
            task.cancel()
        for host in self._hosts.values():
            _kill(host)

    def _problem_of(self, host: str) -> str:
        return self._hosts[host].problem or "it has no scopes"

    async def _follow(self, host: _Host) -> None:
        """Have a host send what is so there, for as long as this view lasts."""
        pause = _FIRST
        while True:
            host.errors.clear()
            began, problem = False, ""
            try:
                began, problem = await self._read(host)
            except OSError as error:
                problem = f"cannot start ssh: {error.strerror}"
            except BadAnswerError as error:
                problem = str(error)
            status = await _ended(host)
            was_there, host.seen = host.seen is not None, None
            out = _MARK if began else b""
            reply = Reply(status, out, bytes(host.errors))
            host.problem = problem or answer.read(host.name, reply).problem
            self._changed()
            pause = _FIRST if was_there else min(pause * 2, _LAST)
            await asyncio.sleep(pause)

    async def _read(self, host: _Host) -> tuple[bool, str]:
        """Read what a host sends until it ends; return whether it began, and why it was left."""
        pipe = asyncio.subprocess.PIPE
        host.process = process = await asyncio.create_subprocess_exec(
            *ssh.words(host.name, self._words),
            stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, limit=_LONGEST,
        )  # fmt: skip
        if process.stdout is None or process.stderr is None:
            raise OSError("it has no pipes")  # it has: they were asked for
        errors = asyncio.ensure_future(_keep(process.stderr, host.errors))
        self._tasks.append(errors)
        errors.add_done_callback(self._tasks.remove)
        began = False
        while True:
            line, problem = await self._line(host, process.stdout)
            if problem or not line:
                return began, problem
            if began:
                before = time.process_time()
                seen = host_rows.read(host.name, answer.parse(line))
                host.seen, host.problem = seen, ""
                self._changed()
                took = time.process_time() - before
                await asyncio.sleep(max(_REST, _TIMES * took))
            began = began or line == _MARK

    async def _line(self, host: _Host, stream: asyncio.StreamReader) -> tuple[bytes, str]:
        """Return the next line of a host, b'' if it has ended; or why it is given up."""
        silent = (host.seen.next_s if host.seen else 0.0) + _PATIENCE
        reading = asyncio.ensure_future(stream.readline())
        try:
            done, _ = await asyncio.wait([reading], timeout=silent)
            if not done:
                host.problem = f"nothing came for {silent:.0f} s"
                self._changed()
                done, _ = await asyncio.wait([reading], timeout=_GIVEN_UP)
            if not done:
                return b"", f"nothing came for {silent + _GIVEN_UP:.0f} s"
            return reading.result(), ""
        except ValueError:
            return b"", f"its answer is longer than {_LONGEST >> 20}M"
        finally:
            reading.cancel()


async def _keep(stream: asyncio.StreamReader, into: bytearray) -> None:
    """Read what a host prints on standard error; the last of it is kept."""
    while data := await stream.read(1 << 12):
        into += data
        del into[:-MOST_ERR]


async def _ended(host: _Host) -> int:
    """Wait until the connection has ended, end it if need be, and return its exit status.

    It is given time to end by itself: whoever signals a process that has just ended reaps it, and
    then its status is lost.
    """
    if host.process is None:
        return FAILED
    try:
        async with asyncio.timeout(_END):
            return await host.process.wait()
    except TimeoutError:
        _kill(host)
        return await host.process.wait()


def _kill(host: _Host) -> None:
    if host.process is not None and host.process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            host.process.kill()


def _call(words: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*commands.program(), *words], capture_output=True, text=True, errors="backslashreplace",
        stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


def _lines(done: "subprocess.CompletedProcess[str]") -> tuple[str, ...]:
    found = [*done.stdout.splitlines(), *done.stderr.splitlines()]
    return tuple(safe(line.removeprefix("scopekeeper: ")) for line in found)
