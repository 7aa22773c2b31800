"""What has to hold after a crash and a reconcile, read from procfs, cgroupfs, systemd and SQLite.

Nothing here asks our own ``ls`` or ``history``.
"""

import os
import sqlite3
from collections import Counter
from contextlib import closing

from tests.machine import (
    cgroup_of,
    environment_of,
    is_alive,
    leaves,
    processes,
    record_of,
    scope_directories,
    text_of,
)
from tests.systemd.manager import state

from .world import Member, Ran, World


def pending(world: World) -> list[str]:
    """Return what is not as it has to be yet: a reconcile or the keeper may still mend it."""
    wrong = [*_processes(world), *_scopes()]
    known = ends(world)
    for member in world.members.values():
        wrong += [*_life(member), *_owned(world, member), *_reason(member, known)]
    return wrong


def final(world: World) -> list[str]:
    """Return what nothing can mend any more."""
    wrong = list(world.notes)
    for ran in world.ran:
        wrong += told(ran)
    counts = Counter(member_id for member_id, *_ in ends(world))
    wrong += [f"history: {count} ends of {which}" for which, count in counts.items() if count > 1]
    for member in world.members.values():
        if member.owned is not None and member.lives and not member.owned.exists():
            wrong.append(f"early: the path of {member.name} is removed, and it lives")
        if member.given_up and member.began:
            wrong.append(f"lost: the launch of {member.name} failed, and yet it began")
        if member.given_up and member.owned is not None and not member.owned.exists():
            wrong.append(f"early: the launch of {member.name} failed, and its path is removed")
    if not (world.folder / "outside" / "kept").exists():
        wrong.append("innocent: a file behind a link of an owned path is removed")
    return wrong


def _processes(world: World) -> list[str]:
    """Every process that a launch has started is in the leaf of a scope."""
    wrong = []
    for pid in (int(name) for name in os.listdir("/proc") if name.isdecimal()):
        about = environment_of(pid)
        if about.get("PROOF_TRIAL") != str(world.folder) or "SCOPEKEEPER_MEMBER" not in about:
            continue
        scope, _, leaf = cgroup_of(pid).rpartition("/")
        is_in = os.path.basename(scope) == about["SCOPEKEEPER_SCOPE"]
        if not (is_in and leaf == about["SCOPEKEEPER_MEMBER"]) and is_alive(pid):
            words = about.get("PROOF_MEMBER")
            wrong.append(f"lost: pid {pid} of {words} is in {scope}/{leaf}, not in its scope")
    return wrong


def _scopes() -> list[str]:
    """Every scope is a unit with a record, whose members live and have an owner, or may stay."""
    wrong = []
    for directory in scope_directories():
        name, record = os.path.basename(directory), record_of(directory)
        if not processes(directory):
            wrong.append(f"left: {name} is empty, {state(name)}")
            continue
        if (is_now := state(name)) != "active":
            wrong.append(f"lost: {name} has processes, and its unit is {is_now}")
        if "SESSION" not in record:
            wrong.append(f"lost: {name} has processes and no record")
        if "STATE" in record:
            wrong.append(f"left: {name} is marked {record['STATE']}")
        for leaf in leaves(directory):
            wrong += _leaf(f"{directory}/{leaf}", f"{name}/{leaf}")
    return wrong


def _leaf(directory: str, name: str) -> list[str]:
    record = record_of(directory)
    if not processes(directory):
        return [f"left: {name} is empty"]
    if "NAME" not in record:
        return [f"lost: {name} has processes and no record"]
    owner, started = record.get("OWNER_PID", ""), record.get("OWNER_START", "")
    may_stay = record.get("LIFETIME", "gateway") != "gateway"
    if owner and not may_stay and _start_of(owner) != started:
        return [f"left: {name} lives, and its owner {owner} does not"]
    return [f"left: {name} is marked {record['STATE']}"] if "STATE" in record else []


def _start_of(pid: str) -> str:
    fields = text_of(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return "" if not fields or fields[0] in "ZX" else fields[19]


def _life(member: Member) -> list[str]:
    if member.may == "lives" and not member.lives:
        return [f"innocent: {member.name} has to live and does not"]
    if member.may == "ends" and member.lives:
        return [f"left: {member.name} (pid {member.pid}) has to end and lives"]
    return []


def _owned(world: World, member: Member) -> list[str]:
    """A path that was handed over is gone with its member; one that was not, stays."""
    if member.owned is None or member.lives:
        return []
    claims = list(world.state.glob("owned/*.claim"))
    words = f"{member.owned.name}".encode()
    if claimed := any(words in each.read_bytes() for each in claims):
        return [f"left: the claim of {member.owned.name}"]
    if member.began and not claimed and member.owned.exists():
        return [f"left: the path of {member.name} is there, and it has ended"]
    return []


def _reason(member: Member, known: list[tuple[str, ...]]) -> list[str]:
    """Each member that began and ended has one reason; one that lives has none."""
    if not member.began:
        return []
    member_id = member.about["member"].rpartition(".")[2]
    found = [reason for which, reason in known if which == member_id]
    if member.lives:
        return [f"history: {member.name} lives, and has the end {found}"] if found else []
    if len(found) != 1:
        return [f"history: {member.name} ({member_id}) has {len(found)} ends: {found}"]
    if member.reasons and found[0] not in member.reasons:
        return [f"history: {member.name} ended by {found[0]!r}, not {' or '.join(member.reasons)}"]
    return []


def ends(world: World, columns: str = "member_id, reason") -> list[tuple[str, ...]]:
    """Return the member ids and reasons of the history, or other columns of it."""
    file = world.state / "history.db"
    if not file.exists():
        return []
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        try:
            return list(connection.execute(f"SELECT {columns} FROM ends"))
        except sqlite3.OperationalError:
            return []  # it has yet to be made


def told(ran: Ran) -> list[str]:
    """Return what a command printed that no user may see."""
    words = " ".join(ran.argv[1:4])
    if ran.status is None:
        return [f"hung: {words}"]
    for bad in ("Traceback (most recent", "Fatal Python error", "Exception ignored"):
        if bad in ran.text:
            return [f"traceback: {words}: {ran.text.strip().splitlines()[-1][:200]}"]
    return []
