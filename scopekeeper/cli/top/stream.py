"""``top --json``: what the live view shows, as a JSON object a line: ``top -H`` reads it by ssh.

It ends as soon as nobody reads it any more.
"""

import asyncio
import contextlib
import json
import os
import select
import time
from typing import Any

from scopekeeper.cli.ls_rows import owners
from scopekeeper.cli.owner_title import owner_title
from scopekeeper.cli.show import safe_json
from scopekeeper.cli.top.machine import Machine
from scopekeeper.cli.top.pace import Pace
from scopekeeper.cli.top.rows import Measured
from scopekeeper.cli.users import user
from scopekeeper.errors import words
from scopekeeper.scope.model import Member
from scopekeeper.scope.selection import Selector

_OUT = 1


async def stream(mount: str, uid: int | None, selector: Selector, delay: float | None) -> None:
    """Print what is so now, and again after each look, until nobody reads it."""
    over, changed = asyncio.Event(), asyncio.Event()
    machine = Machine(mount, uid, selector, changed.set, lambda: 0)
    pace = Pace(delay)
    with contextlib.closing(machine), _gone(over.set):
        pause = 0.0
        while not over.is_set():
            is_due = not await _any(pause, over, changed)
            began = time.process_time()
            problem = ""
            try:
                if is_due:
                    machine.look((), members=True)
                else:
                    changed.clear()
                    await asyncio.sleep(pace.until_events())
                    machine.look_soon(members=True)
            except Exception as error:  # noqa: BLE001  the next look may succeed
                problem = words(error)
            took = time.process_time() - began
            pause = pace.after_look(took) if is_due else pace.after_events(took)
            if not over.is_set() and not _print(_document(machine, pause, problem)):
                return


async def _any(seconds: float, *events: asyncio.Event) -> bool:
    """Wait for one of some events; return whether one came in time."""
    waiting = [asyncio.ensure_future(each.wait()) for each in events]
    done, _ = await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for each in waiting:
        each.cancel()
    return bool(done)


@contextlib.contextmanager
def _gone(call: Any) -> Any:  # noqa: ANN401
    """Call something when the reader of standard output is gone.

    Only a hangup counts: sshd gives one socket for input and output, and that has an end of input.
    """
    loop = asyncio.get_running_loop()
    with select.epoll() as poll:
        with contextlib.suppress(PermissionError):  # a regular file has no reader
            poll.register(_OUT, 0)
        loop.add_reader(poll.fileno(), call)
        try:
            yield
        finally:
            loop.remove_reader(poll.fileno())


def _print(document: dict[str, Any]) -> bool:
    """Print a document; return whether it could be."""
    data = json.dumps(document, separators=(",", ":")).encode() + b"\n"
    try:
        while data:
            data = data[os.write(_OUT, data) :]
    except OSError:
        return False
    return True


def _document(machine: Machine, pause: float, problem: str) -> dict[str, Any]:
    load = machine.load
    members: dict[str, list[dict[str, Any]]] = {}
    for each in machine.measured(members=True):
        if each.member is not None:
            members.setdefault(each.scope.directory, []).append(_member(each, each.member))
    return {
        "version": 1,
        "next_s": round(pause, 3),
        "notes": [safe_json(x) for x in (*machine.notes, *([problem] if problem else []))],
        "cpu_percent": machine.cpu,
        "cpus": load.cpus,
        "memory_available": load.memory[0] if load.memory else None,
        "memory_total": load.memory[1] if load.memory else None,
        "scopes": [
            _scope(each, members.get(each.scope.directory, []))
            for each in machine.measured(members=False)
        ],
    }


def _scope(each: Measured, members: list[dict[str, Any]]) -> dict[str, Any]:
    scope = each.scope
    return {
        "unit": scope.unit,
        "cgroup": scope.cgroup,
        "user": user(scope.uid),
        "uid": scope.uid,
        "session": safe_json(scope.session),
        "label": safe_json(scope.label),
        "lane": safe_json(scope.lane),
        "run": scope.run,
        "session_id": scope.session_id,
        "kind": scope.kind,
        "lifetime": scope.lifetime,
        "owner": safe_json(owners(scope)),
        "strays": list(scope.strays),
        **_numbers(each),
        "members": members,
    }


def _member(each: Measured, member: Member) -> dict[str, Any]:
    owner = "-" if member.owner_state is None else owner_title(member.owner_state)
    return {
        "name": safe_json(member.name),
        "id": member.member_id,
        "cgroup": member.cgroup,
        "kind": member.kind,
        "lifetime": member.lifetime,
        "owner": safe_json(owner),
        "pids": list(member.pids),
        **_numbers(each),
    }


def _numbers(each: Measured) -> dict[str, Any]:
    return {
        "state": each.state,
        "memory_bytes": each.memory,
        "limit_bytes": each.limit,
        "cpu_percent": each.cpu,
        "idle_s": each.idle,
        "age_s": each.age,
    }
