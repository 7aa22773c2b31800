"""Has servers wrapped that appear in the files of an OpenClaw gateway, by the rule ``rewrap``.

It only watches: ``scopekeeper openclaw rewrap``, a process of its own, reads and writes the files,
and does nothing about one that is doubtful. It is called once a file has been quiet for a while, so
never for one that is being written. A server that somebody writes as it was before soon after it
was wrapped is left alone from then on: two programs must not undo each other's work for ever.
"""

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from scopekeeper.keeper.jobs import Jobs, in_thread
from scopekeeper.kernel.inotify import IN_CLOSE_WRITE, IN_CREATE, IN_MOVED_TO, Event
from scopekeeper.users import home_of

_log = logging.getLogger("scopekeeper")

_QUIET = 2.0
"""Seconds without a change before a file is looked at."""
_LONGEST = 60.0
_TAKEN_BACK = 60.0
"""Seconds after which a server that is not wrapped any more was changed, not unwrapped."""
_STATE, _CONFIG, _PLUGINS = ".openclaw", "openclaw.json", "extensions"
_CHANGES = IN_CREATE | IN_CLOSE_WRITE | IN_MOVED_TO
_MOST_WATCHED = 256
_MOST_NOTED = 1000

WatchFolder = Callable[[str, int, Callable[[Event], None]], bool]


@dataclass(slots=True)
class _Gateway:
    """The files of one profile."""

    profile: str
    is_running: bool = False
    again: bool = False
    """Whether a file has changed since the command was started."""
    wrapped: dict[str, float] = field(default_factory=dict)
    """When each server was wrapped, by its name."""
    left: set[str] = field(default_factory=set)
    """The servers that are not wrapped any more."""


class Rewrap:
    """Follows the configuration of this user's gateways while the rule is on."""

    def __init__(
        self,
        jobs: Jobs,
        watch_folder: WatchFolder,
        is_on: Callable[[], bool],
        *,
        home: str | None = None,
        quiet: float = _QUIET,
    ) -> None:
        self._jobs = jobs
        self._watch_folder = watch_folder
        self._is_on = is_on
        self._home = home_of(os.getuid()) if home is None else home
        self._quiet = quiet
        self._watched: dict[str, int] = {}
        self._gateways: dict[str, _Gateway] = {}
        self._due: dict[str, float] = {}
        self._said: set[str] = set()

    def __bool__(self) -> bool:
        """Return whether there is something to follow."""
        return bool(self._gateways) and self._is_on()

    def follow(self) -> None:
        """Watch what there is, and look at all of it soon; does nothing while the rule is off."""
        if not self._is_on() or not os.path.isabs(self._home):
            return
        self._watch(self._home, self._in_home)
        for name in sorted(_folders_in(self._home)):
            if name == _STATE or name.startswith(f"{_STATE}-"):
                self._follow(f"{self._home}/{name}", name[len(_STATE) + 1 :])

    def _follow(self, state: str, profile: str) -> None:
        if not os.path.isfile(f"{state}/{_CONFIG}"):
            self._watch(state, lambda event: self._in_state(state, profile, event))
            return
        self._gateways.setdefault(state, _Gateway(profile))
        self._watch(state, lambda event: self._in_state(state, profile, event))
        plugins = f"{state}/{_PLUGINS}"
        self._watch(plugins, lambda _: self._follow(state, profile))
        for name in sorted(_folders_in(plugins)):
            self._watch(f"{plugins}/{name}", lambda event: self._in_plugin(state, event))
        self._look_soon(state)

    def _watch(self, path: str, notify: Callable[[Event], None]) -> None:
        """Watch a folder once; one that replaced it is another."""
        try:
            inode = os.stat(path).st_ino
        except OSError:
            return
        if self._watched.get(path) == inode or len(self._watched) >= _MOST_WATCHED:
            return
        if self._watch_folder(path, _CHANGES, notify):
            self._watched[path] = inode

    def _in_home(self, event: Event) -> None:
        if event.name.startswith(_STATE):
            self.follow()

    def _in_state(self, state: str, profile: str, event: Event) -> None:
        if event.name in (_CONFIG, _PLUGINS) and self._is_on():
            self._follow(state, profile)

    def _in_plugin(self, state: str, event: Event) -> None:
        if event.name.endswith(".json") and self._is_on():
            self._look_soon(state)

    def _look_soon(self, state: str) -> None:
        """Look once nothing has changed for a while."""
        is_waiting = state in self._due
        self._due[state] = time.monotonic() + self._quiet
        if not is_waiting:
            self._jobs.begin_later(self._quiet, partial(self._look, state))

    async def _look(self, state: str) -> None:
        left = self._due[state] - time.monotonic()
        if left > 0:  # it has changed since
            self._jobs.begin_later(left, partial(self._look, state))
            return
        del self._due[state]
        gateway = self._gateways[state]
        if not self._is_on():
            return
        if gateway.is_running:
            gateway.again = True
            return
        gateway.is_running, gateway.again = True, False
        try:
            await self._rewrap(gateway)
        finally:
            gateway.is_running = False
        if gateway.again:
            self._look_soon(state)

    async def _rewrap(self, gateway: _Gateway) -> None:
        of_profile = ["--profile", gateway.profile] if gateway.profile else []
        since = time.monotonic() - _TAKEN_BACK
        recent = {name for name, moment in gateway.wrapped.items() if moment > since}
        if recent - gateway.left:
            output, _ = await in_thread(_call, self._home, [*of_profile, "--dry-run"])
            for path, server in _servers(output):
                if server in recent - gateway.left:
                    gateway.left.add(server)
                    self._say(f"{path}: server {server} was unwrapped just after it was wrapped, "
                              "and is left as it is until the keeper starts again")  # fmt: skip
        # also a recent one, which may be unwrapped at this very moment: the next look sees that
        excepted = [f"--except={name}" for name in sorted(gateway.left | recent)]
        output, problem = await in_thread(_call, self._home, [*of_profile, *excepted])
        for path, server in _servers(output):
            _log.info("%s: server %s has appeared, and was wrapped", path, server)
            if len(gateway.wrapped) < _MOST_NOTED:
                gateway.wrapped[server] = time.monotonic()
        for text in [*_problems(output), *([problem] if problem else [])]:
            self._say(text)

    def _say(self, text: str) -> None:
        """Log a sentence once."""
        if text not in self._said and len(self._said) < _MOST_NOTED:
            self._said.add(text)
            _log.warning("%s", text)


def _folders_in(path: str) -> Iterator[str]:
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir():
                    yield entry.name
    except OSError:
        return


def _call(home: str, words: Sequence[str]) -> tuple[str, str]:
    """Call the command; return its output, and what went wrong with it altogether."""
    variables = {name: value for name, value in os.environ.items()
                 if not name.startswith(("OPENCLAW_", "NOTIFY_", "LISTEN_"))}  # fmt: skip
    command = [sys.executable, "-m", "scopekeeper", "openclaw", "rewrap", "--json", *words]
    try:
        done = subprocess.run(
            command,
            env=variables | {"HOME": home},
            cwd="/",
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_LONGEST,
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return "", f"openclaw rewrap: {error}"
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return done.stdout.decode("utf-8", "replace"), lines[-1] if lines and not done.stdout else ""


def _answer(output: str, key: str) -> list[object]:
    try:
        answer = json.loads(output)
    except (ValueError, RecursionError):
        return []
    found = answer.get(key) if isinstance(answer, dict) else None
    return found if isinstance(found, list) else []


def _servers(output: str) -> Iterator[tuple[str, str]]:
    for each in _answer(output, "wrapped"):
        if isinstance(each, dict):
            path, server = each.get("file"), each.get("server")
            if isinstance(path, str) and isinstance(server, str):
                yield path, server


def _problems(output: str) -> list[str]:
    return [each for each in _answer(output, "problems") if isinstance(each, str)]
