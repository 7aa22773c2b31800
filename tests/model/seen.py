"""What is there: read from procfs, cgroupfs, systemd and SQLite, and what ``ls`` says of it."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.machine import (
    PROGRAM,
    cgroup_of,
    environment_of,
    is_alive,
    leaves,
    processes,
    record_of,
    scope_directories,
)
from tests.proof import checks
from tests.proof.world import World
from tests.systemd.manager import scope_units


@dataclass(frozen=True)
class Scope:
    """A cgroup that is named like one of ours."""

    record: dict[str, str]
    state: str
    """Of its unit; '' if systemd has none."""
    leaves: dict[str, dict[str, str]]
    """Their records."""
    populated: frozenset[str]
    """The leaves in which something lives."""
    pids: frozenset[int]


@dataclass(frozen=True)
class Seen:
    """What is there at one moment."""

    where: dict[tuple[str, int], str] = field(default_factory=dict)
    """The cgroup of each process that a launch has started, by its member's tag and its pid."""
    scopes: dict[str, Scope] = field(default_factory=dict)
    ends: list[tuple[str, int, str]] = field(default_factory=list)
    """The history: ids of members, pids and reasons."""
    listed: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What ``ls`` says of each leaf in which something lives, or waits for it."""
    there: frozenset[Path] = frozenset()
    """Which of the paths exist."""


def look(world: World, paths: Iterable[Path]) -> Seen:
    """Look at everything."""
    # `ls` is first: what it lists and is not there afterwards has ended, and is looked at again
    listed = _listed(world)
    return Seen(
        where=_where(world),
        scopes=_scopes(),
        ends=[
            (str(which), int(pid or 0), str(reason))
            for which, pid, reason in checks.ends(world, "member_id, pid, reason")
        ],
        listed=listed,
        there=frozenset(each for each in paths if os.path.lexists(each)),
    )


def _where(world: World) -> dict[tuple[str, int], str]:
    found = {}
    for pid in (int(name) for name in os.listdir("/proc") if name.isdecimal()):
        about = environment_of(pid)
        ours = about.get("PROOF_TRIAL") == str(world.folder) and "SCOPEKEEPER_MEMBER" in about
        if ours and is_alive(pid):
            found[about["PROOF_MEMBER"], pid] = cgroup_of(pid)
    return found


def _scopes() -> dict[str, Scope]:
    states, found = scope_units(), {}
    for directory in scope_directories():
        name = os.path.basename(directory)
        inside = leaves(directory)
        found[name] = Scope(
            record_of(directory),
            states.get(name, ""),
            {each: record_of(f"{directory}/{each}") for each in inside},
            frozenset(each for each in inside if processes(f"{directory}/{each}")),
            frozenset(processes(directory)),
        )
    return found


def _listed(world: World) -> dict[str, dict[str, Any]]:
    ran = world.call([PROGRAM, "ls", "--json"])
    world.ran.pop()
    if ran.status != 0:
        raise AssertionError(f"ls answered {ran.status}: {ran.text}")
    return {
        os.path.basename(member["cgroup"]): {**member, "session": scope["session"],
                                             "lane": scope["lane"], "unit": scope["unit"]}
        for scope in json.loads(ran.text)["scopes"]
        for member in scope["members"]
        if member["pids"] or member["state"] == "placed"
    }  # fmt: skip
