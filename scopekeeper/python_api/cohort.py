"""Members that a gateway in Python starts and stops together."""

import asyncio
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from scopekeeper.errors import UsageError
from scopekeeper.lifecycle.stop_target import Result
from scopekeeper.python_api import aio, birthplace, stop_members
from scopekeeper.python_api.birthplace import Birthplace
from scopekeeper.python_api.options import (
    Duration,
    Options,
    duration,
    in_python,
    plain_text,
    seconds,
    texts,
)
from scopekeeper.python_api.popen_arguments import AsyncPopenOptions, PopenOptions
from scopekeeper.python_api.process import Process, Session

T = TypeVar("T")


class SpawnOptions(Options, PopenOptions, total=False):
    """The options of Cohort, and the arguments of ``subprocess.Popen``."""


class AsyncSpawnOptions(Options, AsyncPopenOptions, total=False):
    """The same for ``spawn_async``."""


_LEFT = "the cohort was left"
_ANOTHER = "make another Cohort"
_FORGOTTEN_AT_ONCE = 128


class Cohort:
    """The members that are started through it, in the scope of its session and lane.

    The options are those of ``scopekeeper run``; limits of the scope, ``ttl`` and ``grace`` apply
    when the scope is made. All cohorts of one session and lane share a scope, also those of other
    processes. Leaving the block, or ``stop``, ends the members that this cohort started, each with
    all that is in its leaf, and what they launched themselves by ``scopekeeper run`` or a
    ``Cohort``, unless that has the lifetime ``session`` or ``detached``. It ends nothing else; a
    ``scopekeeper exec`` of a member goes on, since the keeper runs it.

    Without ``with``, call ``close``: neither the end of the program nor that of the object does.

    Safe to use from several threads, and in the process that made it: in a forked child, leaving
    the block, ``stop`` and ``close`` do nothing, and nothing can be started. Raises UsageError.
    """

    def __init__(
        self, session: str | None = None, lane: str | None = None, **options: Unpack[Options]
    ) -> None:
        self._session = Session(texts(session, lane, options))
        self._members: list[Process] = []
        self._places: list[Birthplace] = []
        grace = options.get("grace")
        self._grace = None if grace is None else seconds("grace", grace)
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._is_left = False
        self._many = 64

    def __repr__(self) -> str:
        session, lane = (self._session.options.get(key) for key in ("session", "lane"))
        return f"<Cohort session={session!r} lane={lane!r} members={len(self._members)}>"

    @property
    def members(self) -> tuple[Process, ...]:
        """The members that may not have ended, or may have left something."""
        with self._lock:
            return tuple(self._members)

    def spawn(
        self,
        args: Any,  # noqa: ANN401
        *,
        name: str | None = None,
        replace: bool = False,
        **popen: Unpack[PopenOptions],
    ) -> Process:
        """Start a member and return when its command runs; waits while its scope is being stopped.

        ``name`` names the member, by default the command does. ``replace`` stops members of that
        name first. All other arguments are those of ``subprocess.Popen``, except ``preexec_fn``,
        ``user``, ``group`` and ``extra_groups``. Raises what Popen raises where the command cannot
        be executed, else ScopekeeperError.
        """
        self._check_open()
        options = self._session.options | texts_of_member(name, replace=replace)
        process = Process(args, Session(options, self._session.making), **popen)
        with self._lock:
            self._members.append(process)
            late = self._is_left
        if late:
            self._end([process], self._grace, _LEFT)
            raise UsageError(f"{_LEFT} while {process.member} was started; it was stopped")
        self._tidy()
        return process

    async def spawn_async(
        self,
        args: Any,  # noqa: ANN401
        *,
        name: str | None = None,
        replace: bool = False,
        **popen: Unpack[AsyncPopenOptions],
    ) -> aio.AsyncProcess:
        """Do the same without blocking the loop; the pipes are streams of asyncio."""
        return await aio.spawn(
            lambda **how: self.spawn(args, name=name, replace=replace, **how), {**popen}
        )

    def place(
        self,
        name: str,
        *,
        replace: bool = False,
        within: Duration | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Birthplace:
        """Make a place for a member that the caller starts there itself, born in its leaf.

        ``within`` is how long it waits for its first process, by default a minute. ``env`` is the
        child's environment without what the place adds, by default this process's. ``stop`` ends
        what lives in it, and the caller reaps its own child. Raises ScopekeeperError.
        """
        self._check_open()
        options = self._session.options | texts_of_member(name, replace=replace)
        if within is not None:
            options["within"] = duration("within", within)
        made = birthplace.make(options, env)
        with self._lock:
            self._places.append(made)
            late = self._is_left
        if late:
            made.close()
            self._end([made], self._grace, _LEFT)
            raise UsageError(f"{_LEFT} while {made.member} was placed; it was removed")
        self._tidy()
        return made

    def stop(
        self, *, grace: Duration | None = None, note: str = "", reason: str = ""
    ) -> list[Result]:
        """Stop all members started so far, and verify that no process is left.

        Returns a result for each member, also for those that members launched. ``grace`` is the
        time between SIGTERM and SIGKILL, by default the cohort's, else the scope's; the history
        keeps ``note``, whose old name is ``reason``. Raises RemainsError, which names what lives
        on; UsageError, before the first signal.
        """
        wait = self._grace if grace is None else seconds("grace", grace)
        why = plain_text("note", note) or plain_text("reason", reason)
        if self._is_of_parent():
            return []
        with self._lock:
            started: list[Process | Birthplace] = [*self._members, *self._places]
        return self._end(started, wait, why)

    async def stop_async(
        self, *, grace: Duration | None = None, note: str = "", reason: str = ""
    ) -> list[Result]:
        """Do the same without blocking the loop. A cancelled task waits until it is done."""
        return await _to_the_end(lambda: self.stop(grace=grace, note=note, reason=reason))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(error)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await _to_the_end(lambda: self.close(error))

    def close(self, error: BaseException | None = None) -> None:
        """Start nothing more, stop all, and close the descriptors of places.

        Raises RemainsError; if ``error`` ended the block, that gets a note instead.
        """
        if self._is_of_parent():
            return
        with self._lock:
            self._is_left = True
            places = list(self._places)
        for each in places:
            each.close()
        with stop_members.noted_on(error):
            self.stop(note=_LEFT)

    def _is_of_parent(self) -> bool:
        """Return whether this process was forked from the one that made the cohort."""
        return os.getpid() != self._pid

    def _check_open(self) -> None:
        """Raise UsageError if nothing can be started in it."""
        if self._is_of_parent():
            raise UsageError(f"the cohort belongs to process {self._pid}", _ANOTHER)
        if self._is_left:
            raise UsageError(f"{_LEFT}, so nothing is started in it any more", _ANOTHER)

    def _end(
        self, members: Sequence[Process | Birthplace], grace: float | None, reason: str
    ) -> list[Result]:
        if not members:
            return []
        try:
            results = stop_members.end(members, grace=grace, reason=reason)
        except BaseException:
            self._tidy(always=True)
            raise
        self._forget(members)
        return results

    def _forget(self, stopped: Sequence[Process | Birthplace]) -> None:
        """Forget members that were stopped, with all that they launched, if they are over."""
        known = set(map(id, stopped))
        with self._lock:
            self._places = [each for each in self._places if os.path.isdir(each.directory)]
            self._members = [
                each
                for each in self._members
                if id(each) not in known or not stop_members.is_over(each)
            ]

    def _tidy(self, *, always: bool = False) -> None:
        """Forget members that are over; not at every call, since it looks at each."""
        with self._lock:
            self._places = [each for each in self._places if os.path.isdir(each.directory)]
            if always or len(self._members) > self._many:
                least = 0 if always else _FORGOTTEN_AT_ONCE
                self._members = stop_members.not_over(self._members, least=least)
                self._many = max(64, 2 * len(self._members))


def texts_of_member(name: str | None, *, replace: bool) -> dict[str, str]:
    """Return the options of one member; raises UsageError."""
    from scopekeeper.scope import names

    more = {"replace": "1"} if replace else {}
    if name is not None:
        try:
            more["name"] = names.check("name", plain_text("name", name), names.MEMBER_MAX)
        except ValueError as error:
            raise UsageError(in_python(str(error))) from None
    return more


def spawn(
    args: Any,  # noqa: ANN401
    *,
    session: str | None = None,
    lane: str | None = None,
    name: str | None = None,
    replace: bool = False,
    **more: Unpack[SpawnOptions],
) -> Process:
    """Start one member in the scope of a session and lane, as ``Cohort.spawn`` does.

    ``more`` are options of Cohort and arguments of ``subprocess.Popen``. Nothing here stops it; its
    lifetime decides what does.
    """
    options, popen = _sorted({**more})
    return Cohort(session, lane, **options).spawn(args, name=name, replace=replace, **popen)


async def spawn_async(
    args: Any,  # noqa: ANN401
    *,
    session: str | None = None,
    lane: str | None = None,
    name: str | None = None,
    replace: bool = False,
    **more: Unpack[AsyncSpawnOptions],
) -> aio.AsyncProcess:
    """Do the same without blocking the loop; the pipes are streams of asyncio."""
    options, popen = _sorted({**more})
    cohort = Cohort(session, lane, **options)
    return await cohort.spawn_async(args, name=name, replace=replace, **popen)


def _sorted(more: dict[str, Any]) -> tuple[Options, dict[str, Any]]:
    """Separate the options of a launch from the arguments of ``Popen``."""
    options: Any = {key: more.pop(key) for key in Options.__annotations__ if key in more}
    return options, more


async def _to_the_end(work: Callable[[], T]) -> T:
    """Do it in a thread, and wait for its end even if the task is cancelled."""
    doing = asyncio.ensure_future(asyncio.to_thread(work))
    cancelled: asyncio.CancelledError | None = None
    while not doing.done():
        try:
            await asyncio.shield(doing)
        except asyncio.CancelledError as error:
            if doing.cancelled():
                raise
            cancelled = error
        except Exception:  # noqa: BLE001  raised below
            break
    if cancelled is not None:
        doing.exception()  # retrieved; the cancellation supersedes it
        raise cancelled
    return doing.result()
