"""Finds clients that run with the configuration from before their servers were wrapped.

A client reads its configuration when it starts. One that started earlier runs its servers in no
scope, whatever its file says by now. Only for display: nothing is ended because of what this finds.
"""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from scopekeeper.kernel import proc
from scopekeeper.kernel.usage import command_line
from scopekeeper.mcp_configs.client_format import Format
from scopekeeper.mcp_configs.running import running
from scopekeeper.mcp_configs.servers import inner_command, is_wrapped, read
from scopekeeper.scope.records import ATTRIBUTE

_TICKS = os.sysconf("SC_CLK_TCK")
_RUNNERS = ("npx", "uvx", "bunx", "uv", "npm", "pnpm", "yarn", "bun", "pipx", "deno")
"""Programs that start a package and become another command."""
_VERBS = ("tool", "run", "exec", "dlx", "x")
_SHORTEST = 3
"""Characters. A shorter name of a package may be in any command."""


@dataclass(slots=True)
class Wrapped:
    """The wrapped servers of a client, from all its files."""

    client: str
    title: str
    """Its name as people write it."""
    servers: list[list[str]] = field(default_factory=list)
    """The own command of each."""
    since: float = 0.0
    """When the last of its files was wrapped first, in seconds since the epoch; 0 if unknown."""


@dataclass(frozen=True, slots=True)
class Outdated:
    """A client's process that started before its servers were wrapped."""

    title: str
    pid: int
    outside: int
    """Its servers that run in no scope now."""


def own_commands(text: str, kind: Format) -> list[list[str]]:
    """Return the own command of each wrapped server of a text; raises as ``read`` does. Pure."""
    found = []
    for server in read(text, kind).servers:
        if isinstance(server.data, dict) and is_wrapped(server):
            args = server.words[1:]
            own = args[inner_command(args) :]
            found.append([word if isinstance(word, str) else "" for word in own])
    return found


def outdated(clients: Sequence[Wrapped]) -> Iterator[Outdated]:
    """Yield each process of these clients that has the configuration from before."""
    pids = {each.client: _pids_of(each.client) for each in clients}
    if not any(pids.values()):
        return
    parents = _parents()
    for each in clients:
        for pid in pids[each.client]:
            if _has_above(pid, pids[each.client], parents):
                continue  # a client of two processes, such as Gemini CLI
            below = [one for one in parents if _has_above(one, [pid], parents)]
            contained = {one for one in (pid, *below) if is_contained(one)}
            outside = [one for one in below if one not in contained
                       and _is_server(one, each.servers)]  # fmt: skip
            if pid not in contained and (outside or (not contained and started(pid) < each.since)):
                yield Outdated(each.title, pid, len(outside))


def started_before(client: str, since: float) -> Iterator[int]:
    """Yield each process of a client, in no scope itself, that began before a time."""
    pids = _pids_of(client)
    parents = _parents() if pids else {}
    for pid in pids:
        if not _has_above(pid, pids, parents) and started(pid) < since and not is_contained(pid):
            yield pid


def _pids_of(client: str) -> list[int]:
    return [pid for pids in running([client]).values() for pid in pids]


def _parents() -> dict[int, int]:
    """Return the parent of each process."""
    found = {}
    for pid in proc.pids():
        try:
            stat = proc.stat_of(pid)
        except OSError:
            continue
        if stat is not None and not stat.has_ended:
            found[pid] = stat.parent
    return found


def _has_above(pid: int, wanted: Sequence[int], parents: dict[int, int]) -> bool:
    """Return whether one of these processes is above another one."""
    seen = {pid}
    while (pid := parents.get(pid, 0)) not in seen and pid:
        if pid in wanted:
            return True
        seen.add(pid)
    return False


def is_contained(pid: int) -> bool:
    """Return whether a process is in a scope of ours."""
    try:
        mount, path = proc.mount_point(), proc.cgroup_of(pid)
    except (OSError, LookupError):
        return False
    while path.strip("/"):
        try:
            if proc.attribute(mount + path, ATTRIBUTE) is not None:
                return True
        except OSError:
            return False
        path = path.rpartition("/")[0]
    return False


def started(pid: int) -> float:
    """Return when a process began, in seconds since the epoch; later than all if it has ended."""
    try:
        ticks = int(proc.start_time(pid))
    except OSError:
        return float("inf")
    return time.time() - proc.boottime() / 1e6 + (ticks + 1) / _TICKS


def _is_server(pid: int, servers: Sequence[list[str]]) -> bool:
    words = command_line(pid) or []
    return any(is_of(words, server) for server in servers)


def is_of(words: Sequence[str], server: Sequence[str]) -> bool:
    """Return whether a process with a command line may be a server, or a runner of it. Pure."""
    if not words or not server:
        return False
    program, arguments = _base(server[0]), list(server[1:])
    if program in _RUNNERS:
        package = next((each for each in arguments
                        if not each.startswith("-") and each not in _VERBS), "")  # fmt: skip
        name = package[:1] + package[1:].partition("@")[0]  # without its version
        return len(name) >= _SHORTEST and any(name in word for word in words)
    ends = not arguments or list(words[-len(arguments) :]) == arguments
    return ends and program in (_base(word) for word in words[:3])


def _base(word: str) -> str:
    return PurePosixPath(word).name
